//! The URLs of servers.
//!
//! Owns: what one looks like. Must not know: who is there.

/// A URL taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// Whether it begins with `https://`.
    pub tls: bool,
    /// `host:port`, or only a host.
    pub authority: &'a str,
}

impl<'a> Place<'a> {
    /// Takes `http://host:port` or `https://host:port` apart; a path behind it is left out.
    pub fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.split('/').next().filter(|host| !host.is_empty())?;
        Some(Self { tls, authority })
    }

    /// Host and port.
    pub fn host_and_port(self) -> (&'a str, &'a str) {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (self.authority, if self.tls { "443" } else { "80" }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| Place::of(url).map(|p| (p.tls, p.host_and_port()));
        assert_eq!(parts("http://10.0.0.1:2380"), Some((false, ("10.0.0.1", "2380"))));
        assert_eq!(parts("https://pd-1/path"), Some((true, ("pd-1", "443"))));
        assert_eq!(parts("http://[::1]:2380"), Some((false, ("[::1]", "2380"))));
        assert_eq!(parts("http://[::1]"), Some((false, ("[::1]", "80"))));
        for wrong in ["10.0.0.1:2380", "ftp://a:1", "http://", "http:///x"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
