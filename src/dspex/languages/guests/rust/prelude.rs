//! What Rust programs find there: their variables, the host's tools, and the way back for the value of their last expression.
//!
//! Compiled once for each toolchain. `main` of a program is made around it on its first line (see `languages/_rust.py`): it reads the
//! variables (descriptor 4), runs the program, and sends one ANSWER on the channel (descriptor 3).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::{self, Debug, Display, Write as _};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const RETURN: u8 = 3;
const ANSWER: u8 = 16;
const CALL: u8 = 18;
const DISPLAY: u8 = 19;

// --- Data of any shape ---------------------------------------------------------------------------------------------------

/// What JSON can say, and bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    Pairs(Vec<(Json, Json)>),
    Tuple(Vec<Json>),
    Set(Vec<Json>),
}

impl Json {
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
    pub fn at(&self, place: usize) -> Option<&Json> {
        match self {
            Json::List(items) | Json::Tuple(items) | Json::Set(items) => items.get(place),
            _ => None,
        }
    }
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Int(n) => i64::try_from(*n).ok(),
            _ => None,
        }
    }
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Int(n) => Some(*n as f64),
            Json::Float(x) => Some(*x),
            _ => None,
        }
    }
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(truth) => Some(*truth),
            _ => None,
        }
    }
    pub fn as_list(&self) -> Option<&[Json]> {
        match self {
            Json::List(items) | Json::Tuple(items) | Json::Set(items) => Some(items),
            _ => None,
        }
    }
}

/// Bytes, which a program may use as a `Vec<u8>` and which go back as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl std::ops::Deref for Bytes {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

// --- In ------------------------------------------------------------------------------------------------------------------

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    buffers: &'a [u8],
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }
    fn eat(&mut self, c: u8) -> bool {
        self.space();
        let found = self.text.get(self.at) == Some(&c);
        self.at += usize::from(found);
        found
    }
    fn value(&mut self) -> Json {
        self.space();
        match self.text[self.at] {
            b'"' => {
                self.at += 1;
                Json::Text(self.string())
            }
            b'{' => {
                self.at += 1;
                self.object()
            }
            b'[' => {
                self.at += 1;
                Json::List(self.items())
            }
            b't' => {
                self.at += 4;
                Json::Bool(true)
            }
            b'f' => {
                self.at += 5;
                Json::Bool(false)
            }
            b'n' => {
                self.at += 4;
                Json::Null
            }
            _ => self.number(),
        }
    }
    fn number(&mut self) -> Json {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|c| matches!(c, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let said = std::str::from_utf8(&self.text[start..self.at]).unwrap_or("0");
        said.parse().map(Json::Int).unwrap_or_else(|_| Json::Float(said.parse().unwrap_or(f64::NAN)))
    }
    fn string(&mut self) -> String {
        let mut found = Vec::new();
        loop {
            let start = self.at;
            while !matches!(self.text[self.at], b'"' | b'\\') {
                self.at += 1;
            }
            found.extend_from_slice(&self.text[start..self.at]);
            self.at += 1;
            if self.text[self.at - 1] == b'"' {
                return String::from_utf8(found).unwrap_or_default();
            }
            let c = self.text[self.at];
            self.at += 1;
            match c {
                b'n' => found.push(b'\n'),
                b't' => found.push(b'\t'),
                b'r' => found.push(b'\r'),
                b'b' => found.push(8),
                b'f' => found.push(12),
                b'u' => {
                    let mut code = self.hex();
                    if (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with(b"\\u") {
                        self.at += 2;
                        code = 0x10000 + ((code - 0xd800) << 10) + (self.hex() - 0xdc00);
                    }
                    let c = char::from_u32(code).unwrap_or('\u{fffd}');
                    found.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                other => found.push(other),
            }
        }
    }
    fn hex(&mut self) -> u32 {
        let said = std::str::from_utf8(&self.text[self.at..self.at + 4]).unwrap_or("0");
        self.at += 4;
        u32::from_str_radix(said, 16).unwrap_or(0)
    }
    fn items(&mut self) -> Vec<Json> {
        let mut found = Vec::new();
        while !self.eat(b']') {
            found.push(self.value());
            self.eat(b',');
        }
        found
    }
    fn object(&mut self) -> Json {
        let mut fields = Vec::new();
        while !self.eat(b'}') {
            self.eat(b'"');
            let key = self.string();
            self.eat(b':');
            fields.push((key, self.value()));
            self.eat(b',');
        }
        match fields.as_slice() {
            [(key, _)] if key.starts_with('~') => {
                let (key, value) = fields.remove(0);
                self.untagged(&key, value)
            }
            _ => Json::Object(fields),
        }
    }
    fn untagged(&self, tag: &str, value: Json) -> Json {
        let list = |value: Json| match value {
            Json::List(items) => items,
            _ => Vec::new(),
        };
        match tag {
            "~tuple" => Json::Tuple(list(value)),
            "~set" | "~frozenset" => Json::Set(list(value)),
            "~str" => Json::Text(list(value).iter().filter_map(Json::as_str).collect()),
            "~float" => Json::Float(match value.as_str() {
                Some("inf") => f64::INFINITY,
                Some("-inf") => f64::NEG_INFINITY,
                _ => f64::NAN,
            }),
            "~bytes" => {
                let place: Vec<usize> = list(value).iter().map(|n| n.as_i64().unwrap_or(0) as usize).collect();
                Json::Bytes(self.buffers[place[0]..place[0] + place[1]].to_vec())
            }
            "~dict" => Json::Pairs(
                list(value).into_iter().map(list).filter_map(|pair| <[Json; 2]>::try_from(pair).ok().map(|[k, v]| (k, v))).collect(),
            ),
            _ => value,
        }
    }
}

fn read(text: &[u8], buffers: &[u8]) -> Json {
    Reader { text, at: 0, buffers }.value()
}

/// What a variable of this type is made from.
pub trait FromJson: Sized {
    fn from_json(value: Json) -> Self;
}

fn wrong(wanted: &str, found: Json) -> ! {
    panic!("the host gave {found:?} where a {wanted} was announced")
}

macro_rules! from_json {
    ($($kind:ty, $name:literal, $pattern:pat => $made:expr;)*) => {$(
        impl FromJson for $kind {
            fn from_json(value: Json) -> Self {
                match value {
                    $pattern => $made,
                    other => wrong($name, other),
                }
            }
        }
    )*};
}

from_json! {
    bool, "bool", Json::Bool(truth) => truth;
    i64, "i64", Json::Int(n) => n as i64;
    f64, "f64", Json::Float(x) => x;
    String, "String", Json::Text(text) => text;
    Bytes, "Bytes", Json::Bytes(data) => Bytes(data);
    (), "()", Json::Null => ();
}

impl FromJson for Json {
    fn from_json(value: Json) -> Self {
        value
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: Json) -> Self {
        match value {
            Json::List(items) => items.into_iter().map(T::from_json).collect(),
            other => wrong("Vec", other),
        }
    }
}

impl<T: FromJson> FromJson for HashMap<String, T> {
    fn from_json(value: Json) -> Self {
        match value {
            Json::Object(fields) => fields.into_iter().map(|(key, value)| (key, T::from_json(value))).collect(),
            other => wrong("HashMap", other),
        }
    }
}

// --- Out -----------------------------------------------------------------------------------------------------------------

/// A value on its way out.
#[derive(Default)]
pub struct Out {
    text: String,
    buffers: Vec<u8>,
    tagged: bool,
}

/// What goes out as a value. Programs need not implement it: what does not is shown as `Debug` has it, or by the name of its type.
pub trait ToJson {
    fn out(&self, out: &mut Out);
    fn as_key(&self) -> Option<String> {
        None
    }
}

impl Out {
    fn quoted(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                c if (c as u32) < 0x20 => {
                    let _ = write!(self.text, "\\u{:04x}", c as u32);
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
    fn items<'a, T: ToJson + ?Sized + 'a>(&mut self, items: impl IntoIterator<Item = &'a T>) {
        self.text.push('[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            item.out(self);
        }
        self.text.push(']');
    }
    fn tag(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.tagged = true;
        let _ = write!(self.text, "{{\"~{name}\":");
        content(self);
        self.text.push('}');
    }
    fn bytes(&mut self, data: &[u8]) {
        let (start, length) = (self.buffers.len(), data.len());
        self.buffers.extend_from_slice(data);
        self.tag("bytes", |out| {
            let _ = write!(out.text, "[{start},{length}]");
        });
    }
    fn pairs<'a, K: ToJson + 'a, V: ToJson + 'a>(&mut self, pairs: Vec<(&'a K, &'a V)>) {
        let keys: Option<Vec<String>> = pairs.iter().map(|(key, _)| key.as_key().filter(|key| !key.starts_with('~'))).collect();
        match keys {
            Some(keys) => {
                self.text.push('{');
                for (place, (key, (_, value))) in keys.iter().zip(&pairs).enumerate() {
                    if place > 0 {
                        self.text.push(',');
                    }
                    self.quoted(key);
                    self.text.push(':');
                    value.out(self);
                }
                self.text.push('}');
            }
            None => self.tag("dict", |out| {
                out.text.push('[');
                for (place, (key, value)) in pairs.iter().enumerate() {
                    out.text.push_str(if place > 0 { ",[" } else { "[" });
                    key.out(out);
                    out.text.push(',');
                    value.out(out);
                    out.text.push(']');
                }
                out.text.push(']');
            }),
        }
    }
}

macro_rules! integers {
    ($($kind:ty)*) => {$(
        impl ToJson for $kind {
            fn out(&self, out: &mut Out) {
                let wide = i128::try_from(*self);
                match wide {
                    Ok(n) if (i64::MIN as i128..=u64::MAX as i128).contains(&n) => {
                        let _ = write!(out.text, "{self}");
                    }
                    Ok(n) if n < 0 => out.tag("int", |out| {
                        let _ = write!(out.text, "\"-0x{:x}\"", n.unsigned_abs());
                    }),
                    _ => out.tag("int", |out| {
                        let _ = write!(out.text, "\"0x{self:x}\"");
                    }),
                }
            }
        }
    )*};
}

integers!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

impl ToJson for f64 {
    fn out(&self, out: &mut Out) {
        if self.is_finite() {
            let _ = write!(out.text, "{self:?}");
        } else {
            let name = if self.is_nan() { "nan" } else if *self > 0.0 { "inf" } else { "-inf" };
            out.tag("float", |out| out.quoted(name));
        }
    }
}

impl ToJson for f32 {
    fn out(&self, out: &mut Out) {
        f64::from(*self).out(out);
    }
}

impl ToJson for bool {
    fn out(&self, out: &mut Out) {
        out.text.push_str(if *self { "true" } else { "false" });
    }
}

impl ToJson for str {
    fn out(&self, out: &mut Out) {
        out.quoted(self);
    }
    fn as_key(&self) -> Option<String> {
        Some(self.to_owned())
    }
}

impl ToJson for String {
    fn out(&self, out: &mut Out) {
        out.quoted(self);
    }
    fn as_key(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl ToJson for char {
    fn out(&self, out: &mut Out) {
        out.quoted(&self.to_string());
    }
    fn as_key(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl ToJson for () {
    fn out(&self, out: &mut Out) {
        out.text.push_str("null");
    }
}

/// The type of what never comes to an end, by the one way to name it that is stable.
pub trait Returns {
    type Type;
}
impl<T> Returns for fn() -> T {
    type Type = T;
}

impl ToJson for <fn() -> ! as Returns>::Type {
    fn out(&self, _: &mut Out) {}
}

impl ToJson for Bytes {
    fn out(&self, out: &mut Out) {
        out.bytes(&self.0);
    }
}

impl ToJson for Json {
    fn out(&self, out: &mut Out) {
        match self {
            Json::Null => out.text.push_str("null"),
            Json::Bool(truth) => truth.out(out),
            Json::Int(n) => n.out(out),
            Json::Float(x) => x.out(out),
            Json::Text(text) => text.out(out),
            Json::Bytes(data) => out.bytes(data),
            Json::List(items) => out.items(items),
            Json::Tuple(items) => out.tag("tuple", |out| out.items(items)),
            Json::Set(items) => out.tag("set", |out| out.items(items)),
            Json::Object(fields) => out.pairs(fields.iter().map(|(key, value)| (key, value)).collect()),
            Json::Pairs(pairs) => out.pairs(pairs.iter().map(|(key, value)| (key, value)).collect()),
        }
    }
    fn as_key(&self) -> Option<String> {
        self.as_str().map(str::to_owned)
    }
}

macro_rules! through {
    ($($kind:ty)*) => {$(
        impl<T: ToJson + ?Sized> ToJson for $kind {
            fn out(&self, out: &mut Out) {
                (**self).out(out);
            }
            fn as_key(&self) -> Option<String> {
                (**self).as_key()
            }
        }
    )*};
}

through!(&T &mut T Box<T> std::rc::Rc<T> std::sync::Arc<T>);

impl<T: ToJson> ToJson for Option<T> {
    fn out(&self, out: &mut Out) {
        match self {
            Some(value) => value.out(out),
            None => out.text.push_str("null"),
        }
    }
}

impl<T: ToJson> ToJson for [T] {
    fn out(&self, out: &mut Out) {
        out.items(self);
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn out(&self, out: &mut Out) {
        out.items(self);
    }
}

macro_rules! sequences {
    ($($kind:ident)*) => {$(
        impl<T: ToJson> ToJson for $kind<T> {
            fn out(&self, out: &mut Out) {
                out.items(self);
            }
        }
    )*};
}

sequences!(Vec VecDeque);

impl<T: ToJson> ToJson for BTreeSet<T> {
    fn out(&self, out: &mut Out) {
        out.tag("set", |out| out.items(self));
    }
}

impl<T: ToJson, S> ToJson for HashSet<T, S> {
    fn out(&self, out: &mut Out) {
        out.tag("set", |out| out.items(self));
    }
}

impl<K: ToJson, V: ToJson> ToJson for BTreeMap<K, V> {
    fn out(&self, out: &mut Out) {
        out.pairs(self.iter().collect());
    }
}

impl<K: ToJson, V: ToJson, S> ToJson for HashMap<K, V, S> {
    fn out(&self, out: &mut Out) {
        out.pairs(self.iter().collect());
    }
}

macro_rules! tuples {
    ($(($($name:ident $place:tt)+))*) => {$(
        impl<$($name: ToJson),+> ToJson for ($($name,)+) {
            fn out(&self, out: &mut Out) {
                out.tag("tuple", |out| {
                    out.text.push('[');
                    $(
                        if $place > 0 {
                            out.text.push(',');
                        }
                        self.$place.out(out);
                    )+
                    out.text.push(']');
                });
            }
        }
    )*};
}

tuples! {
    (A 0) (A 0 B 1) (A 0 B 1 C 2) (A 0 B 1 C 2 D 3) (A 0 B 1 C 2 D 3 E 4) (A 0 B 1 C 2 D 3 E 4 F 5)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6) (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7)
}

/// Any data as `Json`.
pub fn json<T: ToJson + ?Sized>(value: &T) -> Json {
    let mut out = Out::default();
    value.out(&mut out);
    read(out.text.as_bytes(), &out.buffers)
}

// A value is told by the best way that its type has: the method that needs the fewest references is found first.

pub struct Probe<'a, T>(pub &'a T);

pub enum Told {
    Value(Out),
    Shown(String),
}

pub trait ViaJson {
    fn told(&self) -> Told;
}
impl<T: ToJson> ViaJson for &&Probe<'_, T> {
    fn told(&self) -> Told {
        let mut out = Out::default();
        self.0.out(&mut out);
        Told::Value(out)
    }
}

pub trait ViaDebug {
    fn told(&self) -> Told;
}
impl<T: Debug> ViaDebug for &Probe<'_, T> {
    fn told(&self) -> Told {
        Told::Shown(format!("{:?}", self.0))
    }
}

pub trait ViaName {
    fn told(&self) -> Told;
}
impl<T> ViaName for Probe<'_, T> {
    fn told(&self) -> Told {
        Told::Shown(format!("<{}>", std::any::type_name::<T>()))
    }
}

pub fn name_of<T>(_: &T) -> String {
    let name = std::any::type_name::<T>();
    name.rsplit_once("main::").map_or(name, |(_, own)| own).trim_start_matches("{{closure}}::").to_owned()
}

// --- The channel ---------------------------------------------------------------------------------------------------------

static ANSWERED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU32 = AtomicU32::new(0);
static SPEAKING: Mutex<()> = Mutex::new(());
static VARIABLES: OnceLock<Mutex<Vec<(String, Json)>>> = OnceLock::new();
static PANIC: Mutex<Option<(String, u32, u32)>> = Mutex::new(None);

fn channel() -> std::mem::ManuallyDrop<File> {
    std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(3) })
}

fn send(kind: u8, flags: u8, body: &[u8], buffers: &[u8]) {
    let mut frame = vec![b'd', b'x', kind, flags];
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(buffers.len() as u64).to_le_bytes());
    frame.extend_from_slice(body);
    frame.extend_from_slice(buffers);
    let _ = channel().write_all(&frame);
}

fn receive() -> (u8, Vec<u8>, Vec<u8>) {
    let mut head = [0; 16];
    channel().read_exact(&mut head).unwrap_or_else(|_| std::process::abort());
    let length = u32::from_le_bytes(head[4..8].try_into().unwrap_or_default());
    let size = u64::from_le_bytes(head[8..16].try_into().unwrap_or_default());
    let (mut body, mut buffers) = (vec![0; length as usize], vec![0; size as usize]);
    let read = channel().read_exact(&mut body).and_then(|()| channel().read_exact(&mut buffers));
    read.unwrap_or_else(|_| std::process::abort());
    (head[2], body, buffers)
}

fn answer(text: &str, tagged: bool, buffers: &[u8], envelope: &str) {
    if ANSWERED.swap(true, Ordering::SeqCst) {
        return;
    }
    let _ = std::io::stdout().flush();
    let mut body = (text.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(text.as_bytes());
    body.extend_from_slice(envelope.as_bytes());
    send(ANSWER, u8::from(tagged), &body, buffers);
}

fn said(text: &str) -> String {
    let mut out = Out::default();
    out.quoted(text);
    out.text
}

fn failed(kind: &str, class: &str, message: &str, place: Option<(u32, u32)>) {
    let (line, column) = place.map_or(("null".to_owned(), "null".to_owned()), |(l, c)| (l.to_string(), c.to_string()));
    let at = place.map_or(String::new(), |(line, column)| format!(" at <program>:{line}:{column}"));
    let trace = said(&format!("{class}{at}: {message}"));
    let (class, message) = (said(class), said(&message.chars().take(10_000).collect::<String>()));
    let error = format!(
        r#"{{"error":{{"kind":"{kind}","type":{class},"message":{message},"line":{line},"column":{column},"traceback":{trace}}}}}"#
    );
    answer("", false, &[], &error);
}

/// A tool of the host's raised: the class of its exception, and its message.
#[derive(Debug, Clone)]
pub struct ToolError {
    pub kind: String,
    pub message: String,
}

impl Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for ToolError {}

/// Call a tool of the host's.
pub fn try_call(name: &str, arguments: &[Json]) -> Result<Json, ToolError> {
    let _turn = SPEAKING.lock();
    let mut out = Out::default();
    out.text.push('[');
    arguments.out(&mut out);
    out.text.push_str(",{}]");
    let mut body = (CALLS.fetch_add(1, Ordering::SeqCst) + 1).to_le_bytes().to_vec();
    body.extend_from_slice(&(name.len() as u16).to_le_bytes());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(out.text.as_bytes());
    send(CALL, u8::from(out.tagged), &body, &out.buffers);
    let (kind, body, buffers) = receive();
    if kind != RETURN {
        std::process::abort();
    }
    let length = u32::from_le_bytes(body[..4].try_into().unwrap_or_default()) as usize;
    let envelope = read(&body[4..4 + length], &[]);
    let text = |key| envelope.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    if envelope.get("failed") == Some(&Json::Bool(true)) {
        return Err(ToolError { kind: text("type"), message: text("message") });
    }
    Ok(read(&body[4 + length..], &buffers).get("result").cloned().unwrap_or(Json::Null))
}

/// Call a tool of the host's; panics with what it raised.
pub fn call(name: &str, arguments: &[Json]) -> Json {
    try_call(name, arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// Show something: a MIME type, and a text of it.
pub fn display(mime: &str, content: &str) {
    let _turn = SPEAKING.lock();
    let _ = std::io::stdout().flush();
    let told = format!(r#"{{"entries":[[{},false,{}]],"offset":0,"metadata":{{}}}}"#, said(mime), content.len());
    send(DISPLAY, 0, told.as_bytes(), content.as_bytes());
}

// --- A program -----------------------------------------------------------------------------------------------------------

extern "C" {
    fn on_exit(function: extern "C" fn(i32, *mut u8), argument: *mut u8) -> i32;
}

extern "C" fn left(status: i32, _: *mut u8) {
    if status == 0 {
        answer("", false, &[], r#"{"type":"SystemExit"}"#);
    }
}

/// Take the variables in, and listen for what goes wrong.
pub fn begin() {
    let mut given = Vec::new();
    let _ = unsafe { File::from_raw_fd(4) }.read_to_end(&mut given);
    let length = given.get(..8).map_or(0, |head| u64::from_le_bytes(head.try_into().unwrap_or_default()) as usize);
    let fields = match given.get(8..8 + length) {
        Some(text) if length > 0 => match read(text, &given[8 + length..]) {
            Json::Object(fields) => fields,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let _ = VARIABLES.set(Mutex::new(fields));
    unsafe { on_exit(left, std::ptr::null_mut()) };
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "Box<dyn Any>".to_owned());
        let place = info.location().map_or((0, 0), |at| (at.line(), at.column()));
        if std::thread::current().name() == Some("main") {
            if let Ok(mut panic) = PANIC.lock() {
                *panic = Some((message, place.0, place.1));
            }
        } else {
            eprintln!("thread panicked at <program>:{}:{}: {message}", place.0, place.1);
        }
    }));
}

/// A variable, once.
pub fn take<T: FromJson>(name: &str) -> T {
    let mut fields = VARIABLES.get().map(|fields| fields.lock().unwrap_or_else(|error| error.into_inner()));
    let place = fields.as_ref().and_then(|fields| fields.iter().position(|(key, _)| key == name));
    match (fields.as_mut(), place) {
        (Some(fields), Some(place)) => T::from_json(fields.swap_remove(place).1),
        _ => panic!("the host gave no {name}"),
    }
}

/// What the program's last expression came to.
pub fn told(name: String, value: Told) {
    let limit = std::env::var("DSPEX_VALUE").ok().and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    match value {
        Told::Value(out) if out.text == "null" && name == "()" => answer("", false, &[], "{}"),
        Told::Value(out) if out.text.len() + out.buffers.len() > limit => {
            failed("value_limit", "ValueLimit", &format!("the value takes more than {limit} bytes"), None);
        }
        Told::Value(out) => answer(&out.text, out.tagged, &out.buffers, &format!(r#"{{"type":{}}}"#, said(&name))),
        Told::Shown(text) => {
            let shown = said(&text.chars().take(2000).collect::<String>());
            answer("", false, &[], &format!(r#"{{"type":{},"repr":{shown}}}"#, said(&name)));
        }
    }
}

/// An error that reached the top by `?`.
pub fn erred(error: &(dyn std::error::Error + 'static)) {
    let full = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let kind = if matches!(full, Some(27 | 28 | 122)) { "disk_limit" } else { "runtime" };
    failed(kind, "Err", &error.to_string(), None);
}

/// Run a program's body; a panic is its error.
pub fn guarded(body: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
        let found = PANIC.lock().ok().and_then(|mut panic| panic.take()).unwrap_or_default();
        let full = ["File too large", "No space left", "Disk quota"].iter().any(|words| found.0.contains(words));
        failed(if full { "disk_limit" } else { "runtime" }, "panic", &found.0, Some((found.1, found.2)));
    }
}
