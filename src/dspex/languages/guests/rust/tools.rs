//! Calls of the host's tools.

use std::fmt;

use crate::json::Json;
use crate::read::{FromJson, Reader};
use crate::wire;
use crate::write::{ToJson, Writer};

/// A tool failed: the class of its exception by name, and its message.
#[derive(Clone, Debug)]
pub struct ToolError {
    pub kind: String,
    pub message: String,
}

impl fmt::Display for ToolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for ToolError {}

/// Call the tool of this name and wait for what it returns; see `tool!`.
pub fn call(name: &str, arguments: &[&dyn ToJson], options: &[(&str, &dyn ToJson)]) -> Result<Json, ToolError> {
    let mut writer = Writer::default();
    writer.call(arguments, options);
    let (body, buffers) = wire::exchange(name, &writer);
    opened(&body, &buffers).unwrap_or_else(|| Err(failure("Malformed", "what the tool returned cannot be read here")))
}

/// The same with its arguments as `json` makes them.
pub fn try_call(name: &str, arguments: &[Json]) -> Result<Json, ToolError> {
    let given: Vec<&dyn ToJson> = arguments.iter().map(|argument| argument as &dyn ToJson).collect();
    call(name, &given, &[])
}

/// What a tool returned; a panic where it failed.
#[track_caller]
pub fn returned(result: Result<Json, ToolError>) -> Json {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Show something: a MIME type, and a text of it.
pub fn display(mime: &str, content: &str) {
    wire::display(mime, content);
}

fn opened(body: &[u8], buffers: &[u8]) -> Option<Result<Json, ToolError>> {
    let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
    let envelope = Json::read(&mut Reader::new(body.get(4..4 + length)?, &[])).ok()?;
    if envelope["failed"] == Json::Bool(true) {
        return Some(Err(failure(envelope["type"].as_str()?, envelope["message"].as_str()?)));
    }
    let values = Json::read(&mut Reader::new(&body[4 + length..], buffers)).ok()?;
    Some(Ok(values["result"].clone()))
}

fn failure(kind: &str, message: &str) -> ToolError {
    ToolError { kind: kind.into(), message: message.into() }
}
