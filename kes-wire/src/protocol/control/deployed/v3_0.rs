//! Control:3.0

use super::Layout;

/// What this version has.
pub const LAYOUT: Layout = Layout {
    info_has_version_and_period_times: true,
    info_has_bundle_time: true,
    has_drop_key: true,
};
