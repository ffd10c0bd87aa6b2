//! Traffic a second, in the dimensions that PD knows.

/// What is done to a region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Traffic {
    /// Read.
    Read,
    /// Written.
    Write,
}

impl Traffic {
    /// Both.
    pub const ALL: [Traffic; 2] = [Traffic::Read, Traffic::Write];

    /// PD's word.
    pub fn name(self) -> &'static str {
        match self {
            Traffic::Read => "read",
            Traffic::Write => "write",
        }
    }

    /// Seconds between two reports: stores tell reads every 10 s, leaders tell writes every minute (PD's numbers).
    pub fn period(self) -> u64 {
        match self {
            Traffic::Read => 10,
            Traffic::Write => 60,
        }
    }

    /// What a peer must have at least to be hot (PD's numbers; CPU in per cent of a core, written peers tell none).
    pub fn lowest(self) -> Rates {
        match self {
            Traffic::Read => Rates { bytes: 8.0 * 1024.0, keys: 128.0, query: 128.0, cpu: 10.0 },
            Traffic::Write => Rates { bytes: 1024.0, keys: 32.0, query: 32.0, cpu: f64::INFINITY },
        }
    }
}

/// What traffic is measured by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dim {
    /// Bytes.
    Byte,
    /// Keys.
    Key,
    /// Queries.
    Query,
    /// CPU.
    Cpu,
}

impl Dim {
    /// All of them.
    pub const ALL: [Dim; 4] = [Dim::Byte, Dim::Key, Dim::Query, Dim::Cpu];

    /// PD's word.
    pub fn name(self) -> &'static str {
        match self {
            Dim::Byte => "byte",
            Dim::Key => "key",
            Dim::Query => "query",
            Dim::Cpu => "cpu",
        }
    }

    /// The dimension of this name.
    pub fn of_name(name: &str) -> Option<Dim> {
        Self::ALL.into_iter().find(|dim| dim.name() == name)
    }
}

/// Traffic a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Bytes.
    pub bytes: f64,
    /// Keys.
    pub keys: f64,
    /// Queries.
    pub query: f64,
    /// CPU, in per cent of a core.
    pub cpu: f64,
}

impl Rates {
    /// In one dimension.
    pub fn of(self, dim: Dim) -> f64 {
        match dim {
            Dim::Byte => self.bytes,
            Dim::Key => self.keys,
            Dim::Query => self.query,
            Dim::Cpu => self.cpu,
        }
    }

    /// Of each dimension what `f` says.
    #[must_use]
    pub fn each(f: impl Fn(Dim) -> f64) -> Self {
        Self { bytes: f(Dim::Byte), keys: f(Dim::Key), query: f(Dim::Query), cpu: f(Dim::Cpu) }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Rates) -> Self {
        Self::each(|dim| self.of(dim) + other.of(dim))
    }

    /// The same `times` over.
    #[must_use]
    pub fn times(self, times: f64) -> Self {
        Self::each(|dim| self.of(dim) * times)
    }

    /// Whether any dimension reaches its bound.
    pub fn reaches(self, bound: Rates) -> bool {
        Dim::ALL.into_iter().any(|dim| self.of(dim) >= bound.of(dim))
    }

    /// How often the dimension that is highest above its bound holds that bound.
    pub fn above(self, bound: Rates) -> f64 {
        Dim::ALL.into_iter().map(|dim| self.of(dim) / bound.of(dim)).fold(0.0, f64::max)
    }
}
