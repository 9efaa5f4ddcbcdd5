//! The `monitoring` block: who may look at the monitoring port, and the dashboard there. The block is
//! our own; the reference has none. Port and path are keys of the top level, as there.

use super::{Decoder, Field, field, unknown_field};
use crate::language::Entry;
use crate::options::MonitorOptions;

/// Reads the block.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry, options: &mut MonitorOptions) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    let table: Vec<&Field<MonitorOptions>> = FIELDS.iter().collect();
    decoder.fields(map, options, &table, unknown_field);
    if options.user.is_some() != options.password.is_some() {
        decoder.error(entry, "monitoring needs user and password together");
    }
}

const FIELDS: &[Field<MonitorOptions>] = &[
    field(&["user", "username"], |d, o, e| d.set_text(e, &mut o.user)),
    field(&["password", "pass"], |d, o, e| {
        d.set_text(e, &mut o.password)
    }),
    field(&["token"], |d, o, e| d.set_text(e, &mut o.token)),
    field(&["dashboard"], |d, o, e| d.set_bool(e, &mut o.dashboard)),
    field(&["actions"], |d, o, e| d.set_bool(e, &mut o.actions)),
];
