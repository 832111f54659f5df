//! `Json`: a value of any kind that can cross, for those whose kind is not known before.

use std::collections::BTreeMap;
use std::fmt;

use crate::read::{FromJson, Mismatch, Reader};
use crate::write::{ToJson, Writer};

/// A value of any kind. What Python has beside JSON has variants of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Big(BigInt),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Json>),
    Tuple(Vec<Json>),
    Set(Vec<Json>),
    Object(BTreeMap<String, Json>),
    Map(Vec<(Json, Json)>),
}

impl Json {
    /// The number, if it is an integer of 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        if let Json::Int(number) = self { Some(*number) } else { None }
    }

    /// The number, integer or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Int(number) => Some(*number as f64),
            Json::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Json::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// The members of a list, a tuple or a set.
    pub fn as_array(&self) -> Option<&Vec<Json>> {
        if let Json::List(items) | Json::Tuple(items) | Json::Set(items) = self { Some(items) } else { None }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Json>> {
        if let Json::Object(members) = self { Some(members) } else { None }
    }

    /// True for null.
    pub fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    /// A member of an object by its name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.as_object()?.get(name)
    }

    /// A member of a list, a tuple or a set by its place.
    pub fn at(&self, place: usize) -> Option<&Json> {
        self.as_array()?.get(place)
    }

    /// The same as a type of Rust's: `json.to::<Vec<i64>>()`.
    pub fn to<T: FromJson>(&self) -> Result<T, Mismatch> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        T::read(&mut Reader::new(&writer.text, &writer.buffers))
    }
}

impl std::ops::Index<&str> for Json {
    type Output = Json;
    fn index(&self, name: &str) -> &Json {
        self.get(name).unwrap_or_else(|| panic!("no member {name:?}"))
    }
}

impl std::ops::Index<usize> for Json {
    type Output = Json;
    fn index(&self, place: usize) -> &Json {
        &self.as_array().expect("no list")[place]
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Json::Text(text) = self {
            return formatter.write_str(text);
        }
        let mut writer = Writer::default();
        self.write(&mut writer);
        formatter.write_str(&String::from_utf8_lossy(&writer.text))
    }
}

/// An integer beyond 128 bits, as `0x..` or `-0x..`: it is carried, shown and compared, no more.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct BigInt(pub(crate) String);

impl BigInt {
    /// The number, if it has at most 128 bits.
    pub fn to_i128(&self) -> Option<i128> {
        i128::from_str_radix(&self.0.replacen("0x", "", 1), 16).ok()
    }
}

impl fmt::Display for BigInt {
    /// In decimal: nine digits at a time, the lowest first.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.trim_start_matches('-').trim_start_matches("0x");
        let mut parts: Vec<u64> = vec![0];
        for digit in digits.chars() {
            let mut carry = u64::from(digit.to_digit(16).unwrap_or(0));
            for part in parts.iter_mut() {
                let sum = *part * 16 + carry;
                (*part, carry) = (sum % 1_000_000_000, sum / 1_000_000_000);
            }
            if carry > 0 {
                parts.push(carry);
            }
        }
        let mut text = parts.pop().unwrap_or(0).to_string();
        for part in parts.iter().rev() {
            text += &format!("{part:09}");
        }
        formatter.pad_integral(!self.0.starts_with('-'), "", &text)
    }
}
