//! Control:2.0: `info` without the agent's version and the period's times.

use super::Layout;

/// What this version has.
pub const LAYOUT: Layout = Layout {
    info_has_version_and_period_times: false,
    info_has_bundle_time: true,
    has_drop_key: true,
};
