//! How a program ended: its value, a panic, an error that `?` handed up, or the end of its process.

use std::any::{type_name, type_name_of_val};
use std::error::Error;
use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::wire;
use crate::write::{ToJson, Writer};

/// What a result says of a failure, but for its trace.
#[derive(Debug)]
struct Failure {
    kind: &'static str,
    name: String,
    message: String,
    line: u32,
    column: u32,
}

static PANIC: Mutex<Option<Failure>> = Mutex::new(None);
static BODY: AtomicBool = AtomicBool::new(false); // a program without a main of its own has begun
static TESTS: OnceLock<&'static [&'static str]> = OnceLock::new(); // of a program of tests: those that should panic
static FAILED: Mutex<Vec<Failure>> = Mutex::new(Vec::new()); // the panics of tests that should not
const SHOWN: usize = 2000;

unsafe extern "C" {
    fn on_exit(handler: extern "C" fn(i32, *mut u8), argument: *mut u8) -> i32;
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

/// Before main, which may be the program's own.
extern "C" fn begin() {
    wire::begin();
    panic::set_hook(Box::new(remember));
    unsafe { on_exit(ended, std::ptr::null_mut()) };
}

/// The program is one of tests; `panicking` are the names of those that should.
#[doc(hidden)]
pub fn tests(panicking: &'static [&'static str]) {
    let _ = TESTS.set(panicking);
}

/// A panic of the main thread is the program's failure, unless it is caught; one of another thread is shown as ever.
fn remember(info: &PanicHookInfo<'_>) {
    let (line, column) = info.location().map_or((0, 0), wire::place);
    let failure = Failure { kind: "runtime", name: "panic".into(), message: message_of(info.payload()), line, column };
    if std::thread::current().name() != Some("main") {
        eprintln!("a thread panicked at line {line}: {}", failure.message);
        return remember_of_test(failure);
    }
    *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(failure);
}

/// Each test has a thread of its own, called as the test is: `tests::adds`.
fn remember_of_test(failure: Failure) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default().rsplit("::").next().unwrap_or_default();
    if !name.is_empty() && TESTS.get().is_some_and(|panicking| !panicking.contains(&name)) {
        FAILED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(failure);
    }
}

/// How a program of tests failed: by the panic that stands first in it, whichever test was faster.
fn of_tests() -> Failure {
    let mut found = std::mem::take(&mut *FAILED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    found.sort_by_key(|failure| (failure.line == 0, failure.line, failure.column));
    let message = "a test failed that did not panic; stdout says which".into();
    found.into_iter().next().unwrap_or(Failure { kind: "runtime", name: "test".into(), message, line: 0, column: 0 })
}

fn message_of(payload: &dyn std::any::Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}

/// The process ends, and nothing was answered: a `main` of the program's own is over, or somebody called `exit`.
extern "C" fn ended(status: i32, _: *mut u8) {
    if wire::answered() {
        return;
    }
    let panicked = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    match (status, panicked) {
        (0, _) if BODY.load(Ordering::Relaxed) => wire::answer(&Writer::default(), r#"{"type":"SystemExit"}"#),
        (0, _) => wire::answer(&Writer::default(), "{}"),
        (101, Some(failure)) => failed(failure),
        (101, None) if TESTS.get().is_some() => failed(of_tests()),
        _ => failed(Failure {
            kind: "runtime",
            name: "exit".into(),
            message: format!("the program ended with status {status}"),
            line: 0,
            column: 0,
        }),
    }
}

/// The body of a program that has no `main` of its own.
#[doc(hidden)]
pub fn run(body: impl FnOnce() -> Result<(), Thrown>) {
    BODY.store(true, Ordering::Relaxed);
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => wire::answer(&Writer::default(), "{}"),
        Ok(Err(thrown)) => failed(thrown.0),
        Err(payload) => {
            let last = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            failed(last.unwrap_or_else(|| Failure {
                kind: "runtime",
                name: "panic".into(),
                message: message_of(&*payload),
                line: 0,
                column: 0,
            }));
        }
    }
}

/// An error that reached the top level by `?`, with its place.
#[derive(Debug)]
pub struct Thrown(Failure);

/// A `Result` that is the program's value, whose error could be any.
#[doc(hidden)]
pub fn fine<T>(result: Result<T, Thrown>) -> Result<T, Thrown> {
    result
}

impl<E: Into<Box<dyn Error>>> From<E> for Thrown {
    #[track_caller]
    fn from(error: E) -> Self {
        let (line, column) = wire::place(Location::caller());
        let message = error.into().to_string();
        Thrown(Failure { kind: "runtime", name: shortened(type_name::<E>()), message, line, column })
    }
}

fn failed(failure: Failure) {
    let Failure { kind, name, message, line, column } = failure;
    let full = ["os error 28", "os error 27", "Os { code: 28", "Os { code: 27"];
    let kind = if full.iter().any(|words| message.contains(words)) { "disk_limit" } else { kind };
    let place = if line > 0 { format!(" at <program>:{line}:{column}") } else { String::new() };
    let shown: String = message.chars().take(10_000).collect();
    let trace = format!("{name}{place}:\n{shown}\n");
    let number = |number: u32| if number > 0 { number.to_string() } else { "null".into() };
    wire::answer(
        &Writer::default(),
        &format!(
            r#"{{"error":{{"kind":"{kind}","type":{},"message":{},"line":{},"column":{},"traceback":{}}}}}"#,
            quoted(&name),
            quoted(&shown),
            number(line),
            number(column),
            quoted(&trace),
        ),
    );
}

fn quoted(text: &str) -> String {
    let mut writer = Writer::default();
    writer.quote(text);
    String::from_utf8_lossy(&writer.text).into_owned()
}

/// The name of a type without its paths: `Vec<String>`.
fn shortened(name: &str) -> String {
    let name = name.trim_start_matches('&');
    let mut found = String::new();
    let mut start = 0; // of the path under way
    for character in name.chars() {
        found.push(character);
        if found[start..].ends_with("::") && !found[start..].ends_with('>') {
            found.truncate(start);
        } else if !character.is_alphanumeric() && !"_:{}#".contains(character) {
            start = found.len();
        }
    }
    found
}

// --- The value, by what there is to say of its type ------------------------------------------------------------------------

/// A value to be said.
pub struct Seen<'a, T: ?Sized>(pub &'a T);

/// A `Result`: what is in it, or how the program failed.
pub trait AsFailure {
    fn say(&self);
}

/// A value that crosses as it is.
pub trait AsValue {
    fn say(&self);
}

/// A value that Debug shows.
pub trait AsDebug {
    fn say(&self);
}

/// A value of which there is nothing to say but its type.
pub trait AsName {
    fn say(&self);
}

impl<T: ToJson, E: Debug> AsFailure for &&&Seen<'_, Result<T, E>> {
    fn say(&self) {
        match self.0 {
            Ok(value) => said(value, type_name::<T>()),
            Err(error) => failed(Failure {
                kind: "runtime",
                name: shortened(type_name::<E>()),
                message: format!("{error:?}"),
                line: 0,
                column: 0,
            }),
        }
    }
}

impl<T: ToJson + ?Sized> AsValue for &&Seen<'_, T> {
    fn say(&self) {
        said(self.0, type_name_of_val(self.0));
    }
}

impl<T: Debug + ?Sized> AsDebug for &Seen<'_, T> {
    fn say(&self) {
        let shown: String = format!("{:?}", self.0).chars().take(SHOWN).collect();
        described(type_name_of_val(self.0), &shown);
    }
}

impl<T: ?Sized> AsName for Seen<'_, T> {
    fn say(&self) {
        let name = type_name_of_val(self.0);
        described(name, &format!("<{}>", shortened(name)));
    }
}

fn said(value: &(impl ToJson + ?Sized), name: &str) {
    let mut writer = Writer::default();
    value.write(&mut writer);
    answered(&writer, name);
}

fn answered(writer: &Writer, name: &str) {
    let size = writer.text.len() + writer.buffers.len();
    if writer.deep {
        return described(name, "a value that is nested too deeply to cross");
    }
    if size > wire::limit() {
        let message = format!("the value takes more than {} bytes", wire::limit());
        return failed(Failure { kind: "value_limit", name: "ValueError".into(), message, line: 0, column: 0 });
    }
    if writer.text == b"null" {
        return wire::answer(&Writer::default(), "{}");
    }
    wire::answer(writer, &format!(r#"{{"type":{}}}"#, quoted(&shortened(name))));
}

fn described(name: &str, shown: &str) {
    let envelope = format!(r#"{{"type":{},"repr":{}}}"#, quoted(&shortened(name)), quoted(shown));
    wire::answer(&Writer::default(), &envelope);
}
