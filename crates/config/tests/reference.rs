//! The same small files go through the reference's configuration test; result and digest must be
//! the same. The reference is found through `MILLRACE_REFERENCE` or below `target/reference`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use millrace_config::parse;

/// Pairs of text that are valid for both, or wrong for both.
const CORPUS: &str = include_str!("corpus/files.txt");
const SEPARATOR: &str = "\n----\n";

fn reference() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fetched = root.join("target/reference/venv/bin/nats-server");
    std::env::var_os("MILLRACE_REFERENCE")
        .map(PathBuf::from)
        .or(Some(fetched))
        .filter(|path| path.exists())
}

/// `Ok(digest)` when the file passes without a remark, else the remarks.
fn ours(text: &str, path: &str) -> Result<String, String> {
    let load = |path: &str| fs::read_to_string(path).map_err(|error| error.to_string());
    let environment = |_: &str| None;
    match parse(text, path, &load, &environment) {
        Ok((options, warnings)) if warnings.is_empty() => Ok(options.config_digest),
        Ok((_, warnings)) => Err(warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => Err(errors.to_string()),
    }
}

// proves: CFG-01, CFG-02, CFG-03, CFG-04, CFG-06, CFG-12, CFG-16
#[test]
fn results_and_digests_are_those_of_the_reference() {
    let Some(reference) = reference() else {
        eprintln!("SKIPPED: no reference binary; set MILLRACE_REFERENCE to compare with it");
        return;
    };
    let folder = std::env::temp_dir().join(format!("millrace-config-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("temporary folder");
    let path = folder.join("test.conf");
    let path_text = path.to_str().expect("a UTF-8 path");
    let mut differences = Vec::new();
    for text in CORPUS.split(SEPARATOR) {
        fs::write(&path, text).expect("write");
        let output = Command::new(&reference)
            .args(["-t", "-c", path_text])
            .output()
            .expect("the reference runs");
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        let same = match ours(text, path_text) {
            Ok(digest) => output.status.success() && shown.contains(&digest),
            Err(_) => !output.status.success(),
        };
        if !same {
            differences.push(format!(
                "{text:?}\n  {shown}\n  {:?}",
                ours(text, path_text)
            ));
        }
    }
    fs::remove_dir_all(&folder).expect("clean up");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
