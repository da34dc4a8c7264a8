//! What else the machine did when the measurement began.

use std::fmt;
use std::num::NonZero;

/// The load average of the last minute, and the processors that it is shared among.
pub(crate) struct Load {
    average: f64,
    processors: usize,
}

impl Load {
    /// `None` where the system does not tell.
    pub(crate) fn now() -> Option<Self> {
        let averages = std::fs::read_to_string("/proc/loadavg").ok()?;
        Some(Self {
            average: averages.split(' ').next()?.parse().ok()?,
            processors: std::thread::available_parallelism().map_or(1, NonZero::get),
        })
    }

    /// Whether what runs already leaves less than a processor to each of the two sides.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn disturbs(&self) -> bool {
        self.average > self.processors as f64 / 2.0
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The machine was busy when this began (load {} on {} processors): figures against \
             recorded ones look worse than they are.",
            self.average, self.processors
        )
    }
}
