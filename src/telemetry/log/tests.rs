#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::{line::Head, *};
use crate::model::testing::shared_file;

/// A line taken apart.
struct Parsed {
    at: Wall,
    offset: i32,
    level: String,
    file: String,
    line: u32,
    message: String,
    fields: Vec<(String, Value<'static>)>,
}

/// Reads a bare or quoted text at the start of `rest`; the ends of a bare text are the characters of `ends`.
fn text<'a>(rest: &'a str, ends: &[char]) -> (String, &'a str) {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(ends).unwrap();
        return (rest[..end].to_owned(), &rest[end..]);
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &quoted[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'u' => {
                    let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    out.push(char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap());
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    panic!("unterminated: {rest}")
}

fn time(text: &str) -> Option<(Wall, i32)> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i32>().ok();
    if text.len() != 30 || text.get(4..5) != Some("/") {
        return None;
    }
    let month = time::Month::try_from(number(5, 7)? as u8).ok()?;
    let date = time::Date::from_calendar_date(number(0, 4)?, month, number(8, 10)? as u8).ok()?;
    let (h, m, s, ms) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
    let clock = time::Time::from_hms_milli(h as u8, m as u8, s as u8, ms as u16).ok()?;
    let sign = if text.get(24..25) == Some("-") { -1 } else { 1 };
    let offset = sign * (number(25, 27)? * 3600 + number(28, 30)? * 60);
    // Go's zero time lies before what nanoseconds can hold.
    let local = i64::try_from(date.with_time(clock).assume_utc().unix_timestamp_nanos()).ok()?;
    Some((Wall(local - i64::from(offset) * 1_000_000_000), offset))
}

fn parse(line: &str) -> Parsed {
    let (head, rest) = line.strip_prefix('[').unwrap().split_once("] [").unwrap();
    let (at, offset) = time(head).unwrap();
    let (level, rest) = rest.split_once("] [").unwrap();
    let (source, rest) = rest.split_once("] [").unwrap();
    let (file, number) = source.rsplit_once(':').unwrap();
    let (message, mut rest) = text(rest, &[']']);
    let mut fields = Vec::new();
    loop {
        rest = rest.strip_prefix(']').unwrap();
        let Some(field) = rest.strip_prefix(" [") else { break };
        if field.starts_with(']') {
            fields.push(("error".to_owned(), Value::NoError));
            rest = field;
            continue;
        }
        let (key, after) = text(field, &['=']);
        let after = after.strip_prefix('=').unwrap();
        if let Some((at, offset)) = after.get(..30).and_then(time) {
            fields.push((key, Value::Time(at, offset)));
            rest = &after[30..];
            continue;
        }
        let zero_time = after.starts_with("0001/01/01 ");
        let (value, after) = text(after, &[']']);
        fields.push((key, if zero_time { Value::Plain(value) } else { value.into() }));
        rest = after;
    }
    assert_eq!(rest.trim_end(), "");
    let (level, file) = (level.to_owned(), file.to_owned());
    Parsed { at, offset, level, file, line: number.parse().unwrap(), message, fields }
}

fn write_again(parsed: &Parsed) -> String {
    let Parsed { at, offset, level, file, line, message, fields } = parsed;
    let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let head = Head { at: *at, offset: *offset, level, file, line: *line };
    line::render(&head, Style::default(), message, &fields)
}

#[test]
fn every_recorded_line_is_written_the_same() {
    let Some(story) = shared_file("compat/scale-in-story.log") else { return };
    let Some(table) = shared_file("compat/logs.tsv") else { return };
    let samples = table.lines().filter_map(|row| row.split('\t').nth(6)).filter(|s| s.starts_with("[2"));
    let mut seen = 0;
    for line in story.lines().chain(samples) {
        // Long samples of the table were cut; what is left of them has no end.
        if !line.ends_with(']') {
            continue;
        }
        assert_eq!(write_again(&parse(line)).trim_end(), line);
        seen += 1;
    }
    assert!(seen > 180, "{seen} lines");
}

fn buffered(level: Level, style: Style, offset: i32) -> (Logger, Arc<Mutex<Vec<u8>>>) {
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let at = Wall(1_795_352_571_057_000_000);
    (Logger::new(Sink::Buffer(buffer.clone()), level, style, offset, move || at), buffer)
}

fn taken(buffer: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(std::mem::take(&mut *buffer.lock())).unwrap()
}

#[test]
fn macro_writes_a_line_with_every_kind_of_value() {
    let (log, buffer) = buffered(Level::Info, Style::default(), -(5 * 3600 + 1800));
    pdlog!(log, Warn, "store limit changed", "store-id" => crate::model::StoreId(2), "type" => "remove-peer",
        "rate-per-min" => 100_000_000.0, "half" => 0.5, "takes" => std::time::Duration::from_millis(1500),
        "empty" => "", "list" => "[1,2]", "ok" => true, "bell" => "\u{7}", "utf8" => "zoné",
        "operator" => reflect("a \"b\""), "error" => Value::NoError);
    let line = taken(&buffer);
    let rest = line.strip_prefix("[2026/11/22 07:32:51.057 -05:30] [WARN] [tests.rs:").unwrap();
    let (_, rest) = rest.split_once("] ").unwrap();
    let expected = r#"["store limit changed"] [store-id=2] [type=remove-peer] [rate-per-min=100000000] [half=0.5] [takes=1.5s] [empty=] [list="[1,2]"] [ok=true] [bell="\u0007"] [utf8=zoné] [operator="\"a \\\"b\\\"\""] []"#;
    assert_eq!(rest, format!("{expected}\n"));
}

#[test]
fn level_decides_and_can_be_changed() {
    let (log, buffer) = buffered(Level::Warn, Style::default(), 0);
    pdlog!(log, Info, "quiet");
    assert_eq!(taken(&buffer), "");
    log.set_level(Level::parse("DEBUG").unwrap());
    pdlog!(log, Debug, "loud");
    assert!(taken(&buffer).contains("[DEBUG]"));
    assert_eq!(Level::parse("loud"), None);
}

#[test]
fn json_style_has_one_object_a_line() {
    let (log, buffer) = buffered(Level::Info, Style { json: true, ..Style::default() }, 0);
    pdlog!(log, Info, "put store ok", "store-id" => 6_u64, "store" => "id:6 \"x\"");
    let line = taken(&buffer);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["level"], &value["store-id"]), (&"INFO".into(), &6.into()));
    assert_eq!(value["store"], "id:6 \"x\"");
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn user_data_is_shown_as_the_configuration_says() {
    let detail = || UserData("StartKey:{7480}, \u{2039}x\u{203a}".to_owned());
    let shown = |redact, json| {
        let (log, buffer) = buffered(Level::Info, Style { redact, json, ..Style::default() }, 0);
        pdlog!(log, Info, "region Version changed", "region-id" => 6_u64, "detail" => detail());
        taken(&buffer)
    };
    assert!(shown(Redact::Off, false).ends_with("[detail=\"StartKey:{7480}, \u{2039}x\u{203a}\"]\n"));
    assert!(shown(Redact::On, false).ends_with("[region-id=6] [detail=?]\n"));
    let marked = shown(Redact::Marker, false);
    assert!(marked.contains("\u{2039}StartKey:{7480}, \u{2039}\u{2039}x\u{203a}\u{203a}\u{203a}"), "{marked}");
    assert!(shown(Redact::On, true).contains("\"detail\":\"?\""));
}

#[test]
fn raft_lines_arrive_with_their_fields_in_order() {
    let (log, buffer) = buffered(Level::Info, Style::default(), 0);
    let raft = RaftDrain::slog(log);
    slog::info!(raft, "became follower at term {}", 7; "raft_id" => 1, "from" => "a b");
    slog::debug!(raft, "not shown");
    let line = taken(&buffer);
    assert!(line.ends_with("[\"became follower at term 7\"] [raft_id=1] [from=\"a b\"]\n"), "{line}");
}

#[test]
fn files_are_rotated_by_size_and_old_ones_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/pd.log");
    let rotation = Rotation { max_size_mib: 1, max_days: 0, max_backups: 2 };
    let clock = Arc::new(AtomicU64::new(1_795_352_571_057_000_000));
    let time = clock;
    let sink = Sink::File(FileSink::open_at(&path, rotation).unwrap());
    let now = move || Wall(time.fetch_add(1_000_000, Ordering::Relaxed) as i64);
    let log = Logger::new(sink, Level::Info, Style::default(), 0, now);
    let long = "x".repeat(700 << 10);
    for _ in 0..5 {
        pdlog!(log, Info, "long", "text" => &long);
    }
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path().join("logs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["pd-2026-11-22T13-02-51.060.log", "pd-2026-11-22T13-02-51.061.log", "pd.log"]);
    assert_eq!(log.lost(), 0);
}
