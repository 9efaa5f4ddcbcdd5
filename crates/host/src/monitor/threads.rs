//! `/stacksz`: the threads of the process and what each is doing, as far as the system tells. It is
//! answered without the event loop, so that it also answers when that is the trouble.

use millrace_node::MonitorAnswer;
use std::fmt::Write as _;
use std::fs;

/// Threads shown at most; there are about a dozen.
const THREADS_MAX: usize = 256;

pub(super) fn show() -> MonitorAnswer {
    let mut text = String::new();
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    for task in tasks.take(THREADS_MAX) {
        let folder = task.path();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let status = read("status");
        let field = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().trim().to_owned()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "thread {} [{}]: {}\n\twaiting in: {}\n\tswitches: {} voluntary, {} not\n",
            task.file_name().to_string_lossy(),
            read("comm").trim(),
            field("State:"),
            read("wchan").trim_end_matches('0'),
            field("voluntary_ctxt_switches:"),
            field("nonvoluntary_ctxt_switches:"),
        );
    }
    if text.is_empty() {
        text.push_str("the system does not tell about threads\n");
    }
    MonitorAnswer {
        status: 200,
        content_type: "application/json",
        body: text.into_bytes(),
    }
}
