#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::time::Duration;

use proptest::prelude::*;

use super::{
    size::{parse_size, show_size},
    *,
};

#[test]
fn durations_are_read_as_go_reads_them() {
    for (text, nanos) in [
        ("0", 0),
        ("-0s", 0),
        ("+5s", 5_000_000_000),
        ("1h15m30.918s", 4_530_918_000_000),
        ("-1.5h", -5_400_000_000_000),
        (".5ms", 500_000),
        ("1.µs", 1_000),
        ("3ns4us", 4_003),
        ("0.9223372036854775807h", 3_320_413_933_267),
    ] {
        assert_eq!(text.parse(), Ok(GoDuration(nanos)), "{text}");
    }
    for (text, error) in [
        ("", "time: invalid duration \"\""),
        ("-", "time: invalid duration \"-\""),
        (".s", "time: invalid duration \".s\""),
        ("1", "time: missing unit in duration \"1\""),
        ("1d", "time: unknown unit \"d\" in duration \"1d\""),
        ("9999999h", "time: invalid duration \"9999999h\""),
        ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
    ] {
        assert_eq!(text.parse::<GoDuration>(), Err(error.to_owned()), "{text}");
    }
    assert_eq!(GoDuration(-5_400_000_000_000).to_string(), "-1h30m0s");
    assert_eq!(GoDuration(-1).get(), Duration::ZERO);
}

#[test]
fn sizes_are_read_and_shown() {
    for (text, bytes, shown) in [
        ("8GiB", 8 << 30, "8GiB"),
        ("8GB", 8 << 30, "8GiB"),
        ("1536kib", 1536 << 10, "1.5MiB"),
        ("10", 10, "10B"),
        ("1000 MB", 1000 << 20, "1000MiB"),
        ("0B", 0, "0B"),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
        assert_eq!(show_size(bytes), shown);
    }
    for text in ["", "B", "-1GiB", "8XB", "1e400GiB", "99999999PiB"] {
        assert_eq!(parse_size(text), Err(format!("invalid size: '{text}'")));
    }
}

proptest! {
    #[test]
    fn a_shown_duration_reads_as_itself(nanos in any::<i64>().prop_filter("Go cannot either", |n| *n != i64::MIN)) {
        let span = GoDuration(nanos);
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn no_text_breaks_the_readers(text in "\\PC{0,20}") {
        let _ = text.parse::<GoDuration>();
        let _ = parse_size(&text);
        let _ = gojson::parse(text.as_bytes());
    }

    /// serde_json reads the same values from every JSON text.
    #[test]
    fn json_reads_as_another_reader_reads_it(
        text in r#"(\[|\{|"a":|"[a\\nu0-9]{0,6}"|-?[0-9]{1,3}(\.5)?(e[0-9])?|,|true|null| |\]|\}){1,8}"#
    ) {
        let ours = gojson::parse(text.as_bytes()).ok().map(|p| p.value);
        let theirs = serde_json::from_str::<Value>(&text).ok();
        prop_assert_eq!(ours, theirs);
    }
}
