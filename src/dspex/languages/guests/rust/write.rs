//! `Writer`: values of Rust's as the host reads them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::json::{BigInt, Json};
use crate::read::{FromJson, Reader};

const DEPTH: usize = 150;

/// JSON with tags, and the bytes that it names.
#[derive(Default)]
pub struct Writer {
    pub(crate) text: Vec<u8>,
    pub(crate) buffers: Vec<u8>,
    pub(crate) tagged: bool,
    pub(crate) deep: bool, // nested more deeply than a reader follows
    depth: usize,
    hashed: usize, // within how many sets and keys: Python hashes tuples, not lists
}

impl Writer {
    fn say(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn open(&mut self, tag: &str) {
        self.tagged = true;
        self.say("{\"~");
        self.say(tag);
        self.say("\":");
    }

    /// A text, quoted.
    #[inline(never)]
    pub fn quote(&mut self, text: &str) {
        self.text.push(b'"');
        let (bytes, mut start) = (text.as_bytes(), 0);
        for (at, &byte) in bytes.iter().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.text.extend_from_slice(&bytes[start..at]);
            start = at + 1;
            match byte {
                b'"' | b'\\' => self.text.extend_from_slice(&[b'\\', byte]),
                _ => self.say(&format!("\\u{byte:04x}")),
            }
        }
        self.text.extend_from_slice(&bytes[start..]);
        self.text.push(b'"');
    }

    #[inline(never)]
    fn float(&mut self, number: f64) {
        if number.is_finite() {
            return self.say(&format!("{number:?}"));
        }
        self.open("float");
        let name = if number.is_nan() { "nan" } else if number > 0.0 { "inf" } else { "-inf" };
        self.quote(name);
        self.text.push(b'}');
    }

    #[inline(never)]
    fn small(&mut self, number: i64) {
        let (mut digits, mut at, mut rest) = ([0u8; 20], 20, number.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            self.text.push(b'-');
        }
        self.text.extend_from_slice(&digits[at..]);
    }

    fn wide(&mut self, negative: bool, size: u128) {
        self.big(&format!("{}0x{size:x}", if negative { "-" } else { "" }));
    }

    fn big(&mut self, text: &str) {
        self.open("int");
        self.quote(text);
        self.text.push(b'}');
    }

    #[inline(never)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.open("bytes");
        self.say(&format!("[{},{}]}}", self.buffers.len(), bytes.len()));
        self.buffers.extend_from_slice(bytes);
    }

    /// The arguments of a call.
    pub(crate) fn call(&mut self, arguments: &[&dyn ToJson], options: &[(&str, &dyn ToJson)]) {
        self.text.push(b'[');
        self.items(arguments.iter());
        self.text.push(b',');
        self.map(options.iter().map(|(name, value)| (name, value)));
        self.text.push(b']');
    }

    fn down(&mut self) -> bool {
        self.depth += 1;
        self.deep |= self.depth > DEPTH;
        !self.deep
    }

    fn items<'a, T: ToJson + 'a>(&mut self, items: impl Iterator<Item = &'a T>) {
        self.text.push(b'[');
        let mut first = true;
        if self.down() {
            for item in items {
                if !std::mem::take(&mut first) {
                    self.text.push(b',');
                }
                item.write(self);
            }
        }
        self.depth -= 1;
        self.text.push(b']');
    }

    fn list<'a, T: ToJson + 'a>(&mut self, items: impl Iterator<Item = &'a T>) {
        if self.hashed > 0 {
            return self.kind("tuple", items);
        }
        self.items(items);
    }

    fn kind<'a, T: ToJson + 'a>(&mut self, tag: &str, items: impl Iterator<Item = &'a T>) {
        self.open(tag);
        self.items(items);
        self.text.push(b'}');
    }

    fn set<'a, T: ToJson + 'a>(&mut self, items: impl Iterator<Item = &'a T>) {
        let tag = if self.hashed > 0 { "frozenset" } else { "set" };
        self.hashed += 1;
        self.kind(tag, items);
        self.hashed -= 1;
    }

    fn pair(&mut self, key: &dyn ToJson, value: &dyn ToJson) {
        self.text.push(b'[');
        self.hashed += 1;
        key.write(self);
        self.hashed -= 1;
        self.text.push(b',');
        value.write(self);
        self.text.push(b']');
    }

    fn map<'a, K: ToJson + 'a, V: ToJson + 'a>(&mut self, members: impl Iterator<Item = (&'a K, &'a V)> + Clone) {
        let named = members.clone().all(|(key, _)| key.name().is_some_and(|name| !name.starts_with('~')));
        let tag = if self.hashed > 0 { "tuple" } else { "dict" };
        let plain = named && self.hashed == 0;
        if !plain {
            self.open(tag);
        }
        self.text.push(if plain { b'{' } else { b'[' });
        let mut first = true;
        if self.down() {
            for (key, value) in members {
                if !std::mem::take(&mut first) {
                    self.text.push(b',');
                }
                match key.name() {
                    Some(name) if plain => {
                        self.quote(name);
                        self.text.push(b':');
                        value.write(self);
                    }
                    _ => self.pair(key, value),
                }
            }
        }
        self.depth -= 1;
        self.say(if plain { "}" } else { "]}" });
    }
}

/// Types whose values cross to the host as they are.
pub trait ToJson {
    /// Write this one.
    fn write(&self, writer: &mut Writer);

    /// Write several; bytes are no list of numbers.
    fn write_all(items: &[Self], writer: &mut Writer)
    where
        Self: Sized,
    {
        writer.list(items.iter());
    }

    /// The text that this is, where it can name a member of an object.
    fn name(&self) -> Option<&str> {
        None
    }
}

/// Any value as `Json`.
pub fn json<T: ToJson + ?Sized>(value: &T) -> Json {
    let mut writer = Writer::default();
    value.write(&mut writer);
    Json::read(&mut Reader::new(&writer.text, &writer.buffers)).unwrap_or_default()
}

impl ToJson for Json {
    fn write(&self, writer: &mut Writer) {
        match self {
            Json::Null => writer.say("null"),
            Json::Bool(truth) => truth.write(writer),
            Json::Int(number) => writer.small(*number),
            Json::Big(number) => writer.big(&number.0),
            Json::Float(number) => writer.float(*number),
            Json::Text(text) => writer.quote(text),
            Json::Bytes(bytes) => writer.bytes(bytes),
            Json::List(items) => writer.list(items.iter()),
            Json::Tuple(items) => writer.kind("tuple", items.iter()),
            Json::Set(items) => writer.set(items.iter()),
            Json::Object(members) => writer.map(members.iter()),
            Json::Map(pairs) => writer.map(pairs.iter().map(|(key, value)| (key, value))),
        }
    }

    fn name(&self) -> Option<&str> {
        self.as_str()
    }
}

impl ToJson for BigInt {
    fn write(&self, writer: &mut Writer) {
        writer.big(&self.0);
    }
}

impl ToJson for () {
    fn write(&self, writer: &mut Writer) {
        writer.say("null");
    }
}

impl ToJson for bool {
    fn write(&self, writer: &mut Writer) {
        writer.say(if *self { "true" } else { "false" });
    }
}

macro_rules! small {
    ($($kind:ty),*) => {$(
        impl ToJson for $kind {
            fn write(&self, writer: &mut Writer) {
                writer.small(*self as i64);
            }
        }
    )*};
}

small!(i8, i16, i32, i64, isize, u16, u32);

impl ToJson for u8 {
    fn write(&self, writer: &mut Writer) {
        writer.small(i64::from(*self));
    }

    fn write_all(items: &[u8], writer: &mut Writer) {
        writer.bytes(items);
    }
}

macro_rules! wide {
    ($($kind:ty),*) => {$(
        impl ToJson for $kind {
            fn write(&self, writer: &mut Writer) {
                match i64::try_from(*self) {
                    Ok(number) => writer.small(number),
                    Err(_) => writer.wide(false, *self as u128),
                }
            }
        }
    )*};
}

wide!(u64, usize, u128);

impl ToJson for i128 {
    fn write(&self, writer: &mut Writer) {
        match i64::try_from(*self) {
            Ok(number) => writer.small(number),
            Err(_) => writer.wide(*self < 0, self.unsigned_abs()),
        }
    }
}

impl ToJson for f64 {
    fn write(&self, writer: &mut Writer) {
        writer.float(*self);
    }
}

impl ToJson for f32 {
    fn write(&self, writer: &mut Writer) {
        writer.float(f64::from(*self));
    }
}

impl ToJson for char {
    fn write(&self, writer: &mut Writer) {
        writer.quote(self.encode_utf8(&mut [0; 4]));
    }
}

impl ToJson for str {
    fn write(&self, writer: &mut Writer) {
        writer.quote(self);
    }

    fn name(&self) -> Option<&str> {
        Some(self)
    }
}

impl ToJson for String {
    fn write(&self, writer: &mut Writer) {
        writer.quote(self);
    }

    fn name(&self) -> Option<&str> {
        Some(self)
    }
}

macro_rules! pointers {
    ($($kind:ty),*) => {$(
        impl<T: ToJson + ?Sized> ToJson for $kind {
            fn write(&self, writer: &mut Writer) {
                (**self).write(writer);
            }

            fn name(&self) -> Option<&str> {
                (**self).name()
            }
        }
    )*};
}

pointers!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

impl<T: ToJson + ToOwned + ?Sized> ToJson for Cow<'_, T> {
    fn write(&self, writer: &mut Writer) {
        (**self).write(writer);
    }

    fn name(&self) -> Option<&str> {
        (**self).name()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.write(writer),
            None => writer.say("null"),
        }
    }
}

impl<T: ToJson> ToJson for [T] {
    fn write(&self, writer: &mut Writer) {
        T::write_all(self, writer);
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn write(&self, writer: &mut Writer) {
        T::write_all(self, writer);
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, writer: &mut Writer) {
        T::write_all(self, writer);
    }
}

macro_rules! lists {
    ($($kind:ident),*) => {$(
        impl<T: ToJson> ToJson for $kind<T> {
            fn write(&self, writer: &mut Writer) {
                writer.list(self.iter());
            }
        }
    )*};
}

lists!(VecDeque, LinkedList, BinaryHeap);

impl<T: ToJson, S> ToJson for HashSet<T, S> {
    fn write(&self, writer: &mut Writer) {
        writer.set(self.iter());
    }
}

impl<T: ToJson> ToJson for BTreeSet<T> {
    fn write(&self, writer: &mut Writer) {
        writer.set(self.iter());
    }
}

impl<K: ToJson, V: ToJson, S> ToJson for HashMap<K, V, S> {
    fn write(&self, writer: &mut Writer) {
        writer.map(self.iter());
    }
}

impl<K: ToJson, V: ToJson> ToJson for BTreeMap<K, V> {
    fn write(&self, writer: &mut Writer) {
        writer.map(self.iter());
    }
}

macro_rules! tuples {
    ($($name:ident $place:tt)+) => {
        impl<$($name: ToJson),+> ToJson for ($($name,)+) {
            fn write(&self, writer: &mut Writer) {
                writer.open("tuple");
                writer.say("[");
                if writer.down() {
                    $(
                        if $place > 0 {
                            writer.say(",");
                        }
                        self.$place.write(writer);
                    )+
                }
                writer.depth -= 1;
                writer.say("]}");
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0 B 1);
tuples!(A 0 B 1 C 2);
tuples!(A 0 B 1 C 2 D 3);
tuples!(A 0 B 1 C 2 D 3 E 4);
tuples!(A 0 B 1 C 2 D 3 E 4 F 5);
tuples!(A 0 B 1 C 2 D 3 E 4 F 5 G 6);
tuples!(A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
