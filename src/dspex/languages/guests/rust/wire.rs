//! The channel: frames to the host and from it, as of `_sandbox/wire.py`.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::json::Json;
use crate::read::{FromJson, Reader};
use crate::write::Writer;

const CHANNEL: i32 = 3;
const PROGRAM: &str = "program.rs"; // as the compiler is given it
const ANSWER: u8 = 16;
const CALL: u8 = 18;
const DISPLAY: u8 = 19;
const TAGGED: u8 = 1;
const TOGETHER: usize = 1 << 16; // bytes that are worth a copy to be sent by one call

unsafe extern "C" {
    fn read(descriptor: i32, data: *mut u8, size: usize) -> isize;
    fn write(descriptor: i32, data: *const u8, size: usize) -> isize;
    fn lseek(descriptor: i32, offset: i64, whence: i32) -> i64;
    fn _exit(status: i32) -> !;
}

static VARIABLES: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
static INSERTED: OnceLock<Vec<usize>> = OnceLock::new();
static LIMIT: AtomicUsize = AtomicUsize::new(0);
static ANSWERED: AtomicBool = AtomicBool::new(false);
static CALLS: Mutex<u32> = Mutex::new(0);

/// Read what the Python that this process was has left in the channel: its sizes stand in the environment.
pub(crate) fn begin() {
    let told = std::env::var("DSPEX_REST").unwrap_or_default();
    // Before main there is one thread.
    unsafe { std::env::remove_var("DSPEX_REST") };
    let sizes: Vec<usize> = told.split(',').filter_map(|size| size.parse().ok()).collect();
    if let [text, buffers, limit, inserted @ ..] = &sizes[..] {
        LIMIT.store(*limit, Ordering::Relaxed);
        let _ = VARIABLES.set((receive(*text), receive(*buffers)));
        let _ = INSERTED.set(inserted.to_vec());
    }
}

/// The line and column as the program's author counts them; zeros in another file than theirs (a crate's, the library's).
pub(crate) fn place(at: &Location<'_>) -> (u32, u32) {
    if at.file() == PROGRAM { (at.line(), column(at.line(), at.column())) } else { (0, 0) }
}

/// A column without what was put in before it.
fn column(line: u32, column: u32) -> u32 {
    let pieces = INSERTED.get().map_or(&[][..], |pieces| &pieces[..]).chunks_exact(3);
    let before = pieces.filter(|piece| piece[0] == line as usize && piece[1] + piece[2] <= column as usize);
    column - before.map(|piece| piece[2] as u32).sum::<u32>()
}

/// One variable by its name.
pub fn variable<T: FromJson>(name: &str) -> T {
    let all = Json::read(&mut variables()).unwrap_or_default();
    let found = all.get(name).unwrap_or(&Json::Null).to();
    found.unwrap_or_else(|mismatch| panic!("a variable did not arrive: {mismatch}"))
}

/// The program's variables, in the order in which the host wrote them.
pub fn variables() -> Reader<'static> {
    match VARIABLES.get() {
        Some((text, buffers)) => Reader::new(text, buffers),
        None => Reader::new(&[], &[]),
    }
}

/// The program's one answer; this process waits for its end from here on. A second thread's answer comes too late.
pub(crate) fn answer(value: &Writer, envelope: &str) {
    let _alone = CALLS.lock();
    if ANSWERED.swap(true, Ordering::SeqCst) {
        return;
    }
    let _ = std::io::Write::flush(&mut std::io::stdout());
    let mut body = (value.text.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(&value.text);
    body.extend_from_slice(envelope.as_bytes());
    send(ANSWER, value.tagged, &body, &value.buffers);
    receive(1); // never comes
}

/// True when the program has said all that it had to say.
pub(crate) fn answered() -> bool {
    ANSWERED.load(Ordering::SeqCst)
}

/// How many bytes a value may take.
pub(crate) fn limit() -> usize {
    LIMIT.load(Ordering::Relaxed)
}

/// One call of a tool: the body of what came back, and the bytes behind it.
pub(crate) fn exchange(name: &str, arguments: &Writer) -> (Vec<u8>, Vec<u8>) {
    let mut number = CALLS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *number += 1;
    let mut body = number.to_le_bytes().to_vec();
    body.extend_from_slice(&(name.len() as u16).to_le_bytes());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&arguments.text);
    send(CALL, arguments.tagged, &body, &arguments.buffers);
    let header = receive(16);
    let length = u32::from_le_bytes(header[4..8].try_into().expect("four bytes"));
    let behind = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
    (receive(length as usize), receive(behind as usize))
}

/// Show something.
pub(crate) fn display(mime: &str, content: &str) {
    let _alone = CALLS.lock();
    let _ = std::io::Write::flush(&mut std::io::stdout());
    let mut told = Writer::default();
    told.quote(mime);
    let mime = String::from_utf8_lossy(&told.text);
    // The output files' offset is what the host orders displays by.
    let offset = unsafe { lseek(1, 0, 1) };
    let body = format!(r#"{{"entries":[[{mime},false,{}]],"offset":{},"metadata":{{}}}}"#, content.len(), offset.max(0));
    send(DISPLAY, false, body.as_bytes(), content.as_bytes());
}

fn send(kind: u8, tagged: bool, body: &[u8], buffers: &[u8]) {
    let mut header = vec![b'd', b'x', kind, if tagged { TAGGED } else { 0 }];
    header.extend_from_slice(&(body.len() as u32).to_le_bytes());
    header.extend_from_slice(&(buffers.len() as u64).to_le_bytes());
    if body.len() < TOGETHER {
        header.extend_from_slice(body);
        put(&header);
    } else {
        put(&header);
        put(body);
    }
    put(buffers);
}

fn put(mut rest: &[u8]) {
    while !rest.is_empty() {
        let sent = unsafe { write(CHANNEL, rest.as_ptr(), rest.len()) };
        if sent > 0 {
            rest = &rest[sent as usize..];
        } else if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            unsafe { _exit(71) };
        }
    }
}

/// So many bytes; this process ends with the channel.
fn receive(size: usize) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::with_capacity(size);
    while data.len() < size {
        let got = unsafe { read(CHANNEL, data.as_mut_ptr().add(data.len()), size - data.len()) };
        if got > 0 {
            unsafe { data.set_len(data.len() + got as usize) };
        } else if got == 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            unsafe { _exit(0) };
        }
    }
    data
}
