use millrace_config::language::*;
use std::io::Read;
fn main() {
    // records separated by \x01 on stdin
    let mut s = String::new();
    std::io::stdin().read_to_string(&mut s).unwrap();
    for text in s.split('\u{1}') {
        let load = |p: &str| std::fs::read_to_string(p).map_err(|e| format!("open {p}: {e}"));
        let env = |n: &str| std::env::var(n).ok();
        match parse_tree(
            text,
            "/tmp/conf/F",
            Sources {
                load: &load,
                environment: &env,
            },
        ) {
            Ok(t) => println!("0 {}", digest(&t.root)),
            Err(e) => println!("1 {}", e.to_string().replace('\n', "\\n")),
        }
    }
}
