//! Control:1.0, and Control:StandardCrypto:0.5 with the same bytes: `info` also without the time
//! of the installed key, and no command to drop it.

use super::Layout;

/// What these versions have.
pub const LAYOUT: Layout = Layout {
    info_has_version_and_period_times: false,
    info_has_bundle_time: false,
    has_drop_key: false,
};
