//! Texts as Go's standard library reads and writes them: numbers, escapes, hex, sizes, times. PD's answers show them.
//!
//! Owns: text in, value or Go's error text out. Must not know: requests, routes, clusters.

use time::{OffsetDateTime, UtcOffset};

use crate::{config::gojson::quote, model::Wall};

/// Why a text is no number: Go's `strconv.NumError`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("strconv.{func}: parsing {}: {what}", quote(.num))]
pub(super) struct NumError {
    /// Go's function.
    pub(super) func: &'static str,
    /// The text.
    pub(super) num: String,
    /// `invalid syntax` or `value out of range`.
    pub(super) what: &'static str,
}

/// What Go says of a text that is no number.
const SYNTAX: &str = "invalid syntax";
/// What Go says of a number that does not fit.
const RANGE: &str = "value out of range";

/// Go's `strconv.ParseUint(text, 10, 64)`.
pub(super) fn parse_uint(text: &str) -> Result<u64, NumError> {
    let error = |what| NumError { func: "ParseUint", num: text.to_owned(), what };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error(SYNTAX));
    }
    text.parse().map_err(|_| error(RANGE))
}

/// Go's `strconv.ParseInt(text, 10, 64)`.
pub(super) fn parse_int(text: &str) -> Result<i64, NumError> {
    signed("ParseInt", text)
}

/// Go's `strconv.Atoi(text)`.
pub(super) fn atoi(text: &str) -> Result<i64, NumError> {
    signed("Atoi", text)
}

fn signed(func: &'static str, text: &str) -> Result<i64, NumError> {
    let error = |what| NumError { func, num: text.to_owned(), what };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error(SYNTAX));
    }
    text.parse().map_err(|_| error(RANGE))
}

/// Go's `strconv.ParseBool(text)`.
pub(super) fn parse_bool(text: &str) -> Result<bool, NumError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NumError { func: "ParseBool", num: text.to_owned(), what: SYNTAX }),
    }
}

/// Why an escaped text cannot be read: Go's `url.EscapeError`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid URL escape {}", quote(.0))]
pub(super) struct EscapeError(String);

/// Go's `url.QueryUnescape`: `+` is a blank.
pub(super) fn query_unescape(text: &[u8]) -> Result<Vec<u8>, EscapeError> {
    unescape(text, true)
}

/// Go's `url.PathUnescape`.
pub(super) fn path_unescape(text: &[u8]) -> Result<Vec<u8>, EscapeError> {
    unescape(text, false)
}

fn unescape(text: &[u8], plus_is_blank: bool) -> Result<Vec<u8>, EscapeError> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'%' => {
                let digit = |i: usize| text.get(i).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    let end = text.len().min(at + 3);
                    return Err(EscapeError(String::from_utf8_lossy(&text[at..end]).into_owned()));
                };
                out.push(u8::try_from(high * 16 + low).unwrap_or(0));
                at += 3;
            }
            b'+' if plus_is_blank => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Why a text is no hex: the texts of Go's `encoding/hex`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum HexError {
    /// A character that is none of `0-9a-fA-F`.
    #[error("encoding/hex: invalid byte: U+{:04X} {}", u32::from(*.0), go_char(*.0))]
    InvalidByte(char),
    /// An odd number of digits.
    #[error("encoding/hex: odd length hex string")]
    OddLength,
}

/// Go's `%q`-like form of a rune after its number (`%#U`).
fn go_char(c: char) -> String {
    if c.is_control() { String::new() } else { format!("'{c}'") }
}

/// Go's `hex.DecodeString`.
pub(super) fn decode_hex(text: &[u8]) -> Result<Vec<u8>, HexError> {
    // Go looks at the bytes one by one, so a byte beyond ASCII shows as the rune of its number.
    if let Some(&bad) = text.iter().find(|b| !b.is_ascii_hexdigit()) {
        return Err(HexError::InvalidByte(char::from(bad)));
    }
    hex::decode(text).map_err(|_| HexError::OddLength)
}

/// A number of bytes as PD shows it: four significant digits and a binary unit (`995GiB`, `1.5TiB`, `0B`).
pub(super) fn byte_size(bytes: u64) -> String {
    const UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
    #[allow(clippy::cast_precision_loss)] // four digits are shown
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let whole_digits = if size >= 1000.0 {
        4
    } else if size >= 100.0 {
        3
    } else if size >= 10.0 {
        2
    } else {
        1
    };
    let mut text = format!("{size:.*}", 4 - whole_digits);
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + UNITS[unit]
}

/// A time as Go's JSON writes it (RFC 3339 with as many decimals as needed, UTC).
pub(super) fn rfc3339_nano(at: Wall) -> String {
    // i64 nanoseconds lie within the years 1677 to 2262, which OffsetDateTime can hold.
    let Ok(t) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0)) else { return GO_ZERO_TIME.to_owned() };
    let t = t.to_offset(UtcOffset::UTC);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    if t.nanosecond() > 0 {
        text.push_str(format!(".{:09}", t.nanosecond()).trim_end_matches('0'));
    }
    text + "Z"
}

/// Go's zero time, which stands for "never".
pub(super) const GO_ZERO_TIME: &str = "0001-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn numbers_are_refused_in_go_words() {
        assert_eq!(parse_uint("18446744073709551615"), Ok(u64::MAX));
        for (text, error) in [
            ("abc", "strconv.ParseUint: parsing \"abc\": invalid syntax"),
            ("", "strconv.ParseUint: parsing \"\": invalid syntax"),
            ("-1", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("+1", "strconv.ParseUint: parsing \"+1\": invalid syntax"),
            ("18446744073709551616", "strconv.ParseUint: parsing \"18446744073709551616\": value out of range"),
            ("a\"b", "strconv.ParseUint: parsing \"a\\\"b\": invalid syntax"),
        ] {
            assert_eq!(parse_uint(text).unwrap_err().to_string(), error);
        }
        assert_eq!(atoi("-12"), Ok(-12));
        assert_eq!(atoi("+12"), Ok(12));
        assert_eq!(atoi("x").unwrap_err().to_string(), "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(parse_int("").unwrap_err().to_string(), "strconv.ParseInt: parsing \"\": invalid syntax");
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(
            parse_bool("maybe").unwrap_err().to_string(),
            "strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
    }

    #[test]
    fn escapes_are_undone_byte_by_byte() {
        assert_eq!(query_unescape(b"t%80%00+a%2B").unwrap(), b"t\x80\x00 a+");
        assert_eq!(path_unescape(b"schema%2F1+").unwrap(), b"schema/1+");
        assert_eq!(query_unescape(b"a%zz").unwrap_err().to_string(), "invalid URL escape \"%zz\"");
        assert_eq!(path_unescape(b"a%1").unwrap_err().to_string(), "invalid URL escape \"%1\"");
    }

    #[test]
    fn hex_is_refused_in_go_words() {
        assert_eq!(decode_hex(b"7480fF").unwrap(), [0x74, 0x80, 0xff]);
        assert_eq!(decode_hex(b"zz").unwrap_err().to_string(), "encoding/hex: invalid byte: U+007A 'z'");
        assert_eq!(decode_hex(b"748").unwrap_err().to_string(), "encoding/hex: odd length hex string");
    }

    #[test]
    fn sizes_show_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (1_099_511_627_776, "1TiB"),
            (1_072_668_082_176, "999GiB"),
            (22_548_578_304, "21GiB"),
            (123_456_789, "117.7MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(byte_size(bytes), text);
        }
    }

    #[test]
    fn times_show_only_the_decimals_they_need() {
        assert_eq!(rfc3339_nano(Wall(1_767_225_600_000_000_000)), "2026-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(Wall(1_795_352_043_320_899_310)), "2026-11-22T12:54:03.32089931Z");
    }
}
