//! Finding the route of a path.
//!
//! Owns: clean paths, matching by segments, "known path, other method". Must not know: what routes do. Paths are matched as
//! sent, so that an escaped slash stays within its segment.

use axum::http::Method;

use super::routes::Route;

/// What a path leads to.
pub(super) enum Found<'a> {
    /// A route, and the path variables as sent.
    Route(&'a Route, Vec<(&'static str, String)>),
    /// The path is known, with other methods.
    OtherMethod,
    /// Nothing.
    Nothing,
}

/// Looks a path up in the table; the first row that matches wins.
pub(super) fn find<'a>(table: &'a [Route], method: &Method, path: &str) -> Found<'a> {
    let mut known = false;
    for route in table {
        let Some(params) = variables(route.path, path) else { continue };
        if route.methods.has(method) {
            return Found::Route(route, params);
        }
        known = true;
    }
    if known { Found::OtherMethod } else { Found::Nothing }
}

/// The path variables, when `path` has the form of `pattern`: literal segments, `{name}` for one segment, `{*name}` at the end
/// for all that is left.
fn variables(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    let (mut wanted, mut rest) = (pattern.split('/').skip(1), path.strip_prefix('/')?);
    loop {
        let segment = wanted.next()?;
        if let Some(name) = segment.strip_prefix("{*") {
            params.push((name.trim_end_matches('}'), rest.to_owned()));
            return Some(params);
        }
        let (here, after) = match rest.split_once('/') {
            Some((here, after)) => (here, Some(after)),
            None => (rest, None),
        };
        match segment.strip_prefix('{') {
            Some(name) if !here.is_empty() => params.push((name.trim_end_matches('}'), here.to_owned())),
            None if segment == here => {}
            _ => return None,
        }
        match after {
            Some(after) => rest = after,
            None => return wanted.next().is_none().then_some(params),
        }
    }
}

/// The clean form of a path that has empty, `.` or `..` segments; `None` for a clean one. A slash at the end stays.
pub(super) fn clean(path: &str) -> Option<String> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let segments: Vec<&str> = inner.split('/').collect();
    let last = segments.len() - 1;
    let dirty = |(at, s): (usize, &&str)| matches!(*s, "." | "..") || (s.is_empty() && at != last);
    if path.starts_with('/') && !segments.iter().enumerate().any(dirty) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::with_capacity(segments.len());
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let mut out = format!("/{}", kept.join("/"));
    if path.ends_with('/') && out.len() > 1 {
        out.push('/');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn patterns_match_by_segments() {
        assert_eq!(variables("/pd/store/{id}", "/pd/store/7").unwrap(), [("id", "7".to_owned())]);
        assert_eq!(variables("/a/{x}/b/{y}", "/a/1%2F2/b/3").unwrap()[0].1, "1%2F2");
        assert!(variables("/pd/store/{id}", "/pd/store/").is_none());
        assert!(variables("/pd/store/{id}", "/pd/store").is_none());
        assert!(variables("/pd/stores", "/pd/stores/").is_none());
        assert!(variables("/pd/store/{id}", "/pd/store/7/label").is_none());
        assert_eq!(variables("/x/{*rest}", "/x/a/b").unwrap(), [("rest", "a/b".to_owned())]);
        assert_eq!(variables("/x/{*rest}", "/x/").unwrap(), [("rest", String::new())]);
        assert!(variables("/x/{*rest}", "/x").is_none());
    }

    #[test]
    fn only_unclean_paths_are_redirected() {
        for path in ["/", "/pd/api/v1/stores", "/pd/api/v1/stores/"] {
            assert_eq!(clean(path), None);
        }
        for (path, to) in [
            ("//pd/api/v1/stores", "/pd/api/v1/stores"),
            ("/pd//api/", "/pd/api/"),
            ("/pd/./api/../v1", "/pd/v1"),
            ("/../..", "/"),
            ("*", "/*"),
        ] {
            assert_eq!(clean(path).as_deref(), Some(to));
        }
    }
}
