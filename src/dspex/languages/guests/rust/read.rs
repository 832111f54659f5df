//! `Reader`: what the host wrote, read as the types that a program has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use crate::json::{BigInt, Json};

/// A value is not of the type that it was read as.
#[derive(Debug)]
pub struct Mismatch(pub String);

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

type Read<T> = Result<T, Mismatch>;

/// A place in a JSON text, and the bytes that it names.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    buffers: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8], buffers: &'a [u8]) -> Self {
        Reader { text, at: 0, buffers }
    }

    /// The next member of the object of variables, past its name.
    #[doc(hidden)]
    pub fn variable<T: FromJson>(&mut self) -> T {
        self.next_name();
        T::read(self).unwrap_or_else(|mismatch| panic!("a variable did not arrive: {mismatch}"))
    }

    fn next_name(&mut self) {
        self.at += 1; // the brace, or a comma
        let _ = self.text().and_then(|_| self.expect(b':'));
    }

    fn peek(&mut self) -> u8 {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn expect(&mut self, wanted: u8) -> Read<()> {
        let found = self.peek();
        if found != wanted {
            return Err(self.wrong(&format!("{:?}", wanted as char)));
        }
        self.at += 1;
        Ok(())
    }

    #[cold]
    fn wrong(&mut self, wanted: &str) -> Mismatch {
        self.peek();
        let rest = &self.text[self.at.min(self.text.len())..];
        let shown = String::from_utf8_lossy(&rest[..rest.len().min(40)]);
        Mismatch(format!("expected {wanted}, found {shown}"))
    }

    fn word(&mut self, word: &str) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Whether a list or an object (which ends with `close`) has another member; `first` before any was read.
    pub(crate) fn more(&mut self, first: &mut bool, close: u8) -> Read<bool> {
        let found = self.peek();
        if found == close {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// The tag of what comes, if it is tagged: `{"~tag":`; the cursor is behind it then.
    fn tag(&mut self) -> Option<&'a str> {
        if self.peek() != b'{' {
            return None;
        }
        let start = self.at;
        self.at += 1;
        if self.peek() == b'"' && self.text.get(self.at + 1) == Some(&b'~') {
            let rest = &self.text[self.at + 1..];
            if let Some(length) = rest.iter().position(|&byte| byte == b'"') {
                self.at += length + 2;
                if self.expect(b':').is_ok() {
                    return std::str::from_utf8(&rest[1..length]).ok();
                }
            }
        }
        self.at = start;
        None
    }

    fn number(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let inside = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !inside(byte)).unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(&rest[..length]).unwrap_or("")
    }

    #[inline(never)]
    fn float(&mut self) -> Read<f64> {
        if self.tag() == Some("float") {
            let text = self.text()?;
            self.expect(b'}')?;
            return text.parse().map_err(|_| Mismatch(text));
        }
        let text = self.number();
        text.parse().map_err(|_| self.wrong("a number"))
    }

    #[inline(never)]
    fn integer(&mut self) -> Read<i128> {
        if self.peek() == b'{' {
            let big = self.big()?;
            return big.to_i128().ok_or_else(|| Mismatch(format!("{big} has more than 128 bits")));
        }
        let text = self.number();
        text.parse().map_err(|_| self.wrong("an integer"))
    }

    fn small(&mut self) -> Read<i64> {
        let number = self.integer()?;
        i64::try_from(number).map_err(|_| Mismatch(format!("{number} has more than 64 bits")))
    }

    fn big(&mut self) -> Read<BigInt> {
        if self.tag() == Some("int") {
            let text = self.text()?;
            self.expect(b'}')?;
            return Ok(BigInt(text));
        }
        let number = self.integer()?;
        let sign = if number < 0 { "-" } else { "" };
        Ok(BigInt(format!("{sign}0x{:x}", number.unsigned_abs())))
    }

    #[inline(never)]
    fn text(&mut self) -> Read<String> {
        self.expect(b'"')?;
        let mut found: Vec<u8> = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            let length = length.ok_or_else(|| Mismatch("a text has no end".into()))?;
            found.extend_from_slice(&rest[..length]);
            self.at += length + 1;
            if rest[length] == b'"' {
                return String::from_utf8(found).map_err(|error| Mismatch(error.to_string()));
            }
            let mut utf8 = [0; 4];
            found.extend_from_slice(self.escaped()?.encode_utf8(&mut utf8).as_bytes());
        }
    }

    fn escaped(&mut self) -> Read<char> {
        let byte = self.text.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        Ok(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let unit = self.unit()?;
                let paired = (0xd800..0xdc00).contains(&unit) && self.text[self.at..].starts_with(b"\\u");
                let low = if paired { self.at += 2; self.unit()? } else { 0 };
                let code = if paired { 0x10000 + ((unit - 0xd800) << 10) + (low & 0x3ff) } else { unit };
                char::from_u32(code).ok_or_else(|| Mismatch("half a surrogate pair is no text".into()))?
            }
            other => other as char,
        })
    }

    fn unit(&mut self) -> Read<u32> {
        let digits = self.text.get(self.at..self.at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        self.at += 4;
        u32::from_str_radix(digits.unwrap_or(""), 16).map_err(|_| Mismatch("a malformed escape".into()))
    }

    fn bytes(&mut self) -> Read<Vec<u8>> {
        if self.tag() != Some("bytes") {
            return Err(self.wrong("bytes"));
        }
        let found = self.named_bytes()?;
        self.expect(b'}')?;
        Ok(found)
    }

    fn named_bytes(&mut self) -> Read<Vec<u8>> {
        let place = self.list::<usize>()?;
        let (start, length) = (place[0], place[1]);
        Ok(self.buffers[start..start + length].to_vec())
    }

    fn list<T: FromJson>(&mut self) -> Read<Vec<T>> {
        self.expect(b'[')?;
        let (mut found, mut first) = (Vec::new(), true);
        while self.more(&mut first, b']')? {
            found.push(T::read(self)?);
        }
        Ok(found)
    }

    /// The members of a set, a tuple or a list.
    fn members<T: FromJson>(&mut self) -> Read<Vec<T>> {
        let tagged = self.tag().is_some();
        let found = self.list::<T>()?;
        if tagged {
            self.expect(b'}')?;
        }
        Ok(found)
    }

    fn object(&mut self) -> Read<BTreeMap<String, Json>> {
        self.expect(b'{')?;
        let (mut found, mut first) = (BTreeMap::new(), true);
        while self.more(&mut first, b'}')? {
            let name = self.text()?;
            self.expect(b':')?;
            found.insert(name, self.any()?);
        }
        Ok(found)
    }

    #[inline(never)]
    fn any(&mut self) -> Read<Json> {
        match self.peek() {
            b'"' => self.text().map(Json::Text),
            b'[' => self.list::<Json>().map(Json::List),
            b'{' => self.tagged(),
            b't' | b'f' => bool::read(self).map(Json::Bool),
            b'n' if self.word("null") => Ok(Json::Null),
            _ => self.any_number(),
        }
    }

    fn any_number(&mut self) -> Read<Json> {
        let text = self.number();
        if let Ok(number) = text.parse() {
            return Ok(Json::Int(number));
        }
        text.parse().map(Json::Float).map_err(|_| self.wrong("a value"))
    }

    fn again(&mut self, start: usize) -> &mut Self {
        self.at = start;
        self
    }

    fn tagged(&mut self) -> Read<Json> {
        let start = self.at;
        let found = match self.tag() {
            None => return self.object().map(Json::Object),
            Some("int") => return self.again(start).big().map(Json::Big),
            Some("float") => return self.again(start).float().map(Json::Float),
            Some("bytes") => Json::Bytes(self.named_bytes()?),
            Some("tuple") => Json::Tuple(self.list()?),
            Some("set" | "frozenset") => Json::Set(self.list()?),
            Some("dict") => Json::Map(self.list()?),
            Some(other) => return Err(Mismatch(format!("a value of the kind {other:?} is not known here"))),
        };
        self.expect(b'}')?;
        Ok(found)
    }
}

/// JSON text as a type of Rust's: `parse::<Vec<i64>>("[1, 2]")`.
pub fn parse<T: FromJson>(text: &str) -> Result<T, Mismatch> {
    T::read(&mut Reader::new(text.as_bytes(), &[]))
}

/// Types that a variable, or what a tool returns, can be read as.
pub trait FromJson: Sized {
    /// Read one.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch>;

    /// Read several; bytes lie elsewhere than other lists.
    fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, Mismatch> {
        reader.members()
    }

    /// From the name of a member of an object, for those that can be one.
    fn from_name(name: String) -> Result<Self, Mismatch> {
        Err(Mismatch(format!("{name:?} is a text")))
    }
}

impl FromJson for bool {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let truth = reader.word("true");
        if truth || reader.word("false") { Ok(truth) } else { Err(reader.wrong("true or false")) }
    }
}

impl FromJson for i64 {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.small()
    }
}

impl FromJson for i128 {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.integer()
    }
}

macro_rules! narrow {
    ($($kind:ty),*) => {$(
        impl FromJson for $kind {
            fn read(reader: &mut Reader<'_>) -> Read<Self> {
                let number = reader.integer()?;
                number.try_into().map_err(|_| Mismatch(format!("{number} is no {}", stringify!($kind))))
            }
        }
    )*};
}

narrow!(i8, i16, i32, isize, u16, u32, u64, u128, usize);

impl FromJson for u8 {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let number = reader.integer()?;
        number.try_into().map_err(|_| Mismatch(format!("{number} is no u8")))
    }

    fn read_all(reader: &mut Reader<'_>) -> Read<Vec<u8>> {
        if reader.peek() == b'[' { reader.list() } else { reader.bytes() }
    }
}

impl FromJson for f64 {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.float()
    }
}

impl FromJson for f32 {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.float().map(|number| number as f32)
    }
}

impl FromJson for String {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.text()
    }

    fn from_name(name: String) -> Read<Self> {
        Ok(name)
    }
}

impl FromJson for BigInt {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.big()
    }
}

impl FromJson for Json {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.any()
    }

    fn from_name(name: String) -> Read<Self> {
        Ok(Json::Text(name))
    }
}

impl FromJson for () {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        if reader.word("null") { Ok(()) } else { Err(reader.wrong("null")) }
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        if reader.word("null") { Ok(None) } else { T::read(reader).map(Some) }
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        T::read_all(reader)
    }
}

impl<T: FromJson + Eq + Hash> FromJson for HashSet<T> {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        Ok(reader.members()?.into_iter().collect())
    }
}

impl<K: FromJson + Eq + Hash, V: FromJson> FromJson for HashMap<K, V> {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        if reader.tag().is_some() {
            let pairs: Vec<(K, V)> = reader.list()?;
            reader.expect(b'}')?;
            return Ok(pairs.into_iter().collect());
        }
        reader.expect(b'{')?;
        let (mut found, mut first) = (HashMap::new(), true);
        while reader.more(&mut first, b'}')? {
            let name = K::from_name(reader.text()?)?;
            reader.expect(b':')?;
            found.insert(name, V::read(reader)?);
        }
        Ok(found)
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: FromJson),+> FromJson for ($($name,)+) {
            fn read(reader: &mut Reader<'_>) -> Read<Self> {
                let tagged = reader.tag().is_some();
                reader.expect(b'[')?;
                let mut first = true;
                let found = ($({
                    reader.more(&mut first, b']')?;
                    $name::read(reader)?
                },)+);
                reader.expect(b']')?;
                if tagged {
                    reader.expect(b'}')?;
                }
                Ok(found)
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
