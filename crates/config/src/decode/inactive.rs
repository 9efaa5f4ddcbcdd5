//! Blocks of features that this version does not have: clusters, gateways, leaf nodes, MQTT,
//! profiling, OCSP. Every key is checked as the reference checks it, so that a file that works there is
//! taken and a mistake is found; the feature is noted, and the server says that it is not active.

mod cluster;
mod leafnodes;
mod mqtt;
mod ocsp;
mod parts;

pub(super) use cluster::{cluster, gateway};
pub(super) use leafnodes::leafnodes;
pub(super) use mqtt::mqtt;
pub(super) use ocsp::{cache as ocsp_cache, stapling as ocsp};

use super::Decoder;
use crate::language::Entry;
use crate::options::Options;

/// `prof_port`: the number is checked.
pub(super) fn profile_port(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    decoder.set_integer(entry, &mut options.monitor.profile_port);
    if options.monitor.profile_port != 0 {
        options.inactive.note("prof_port");
    }
}
