//! The guard of the hot paths: counts the instructions that `guard/` spends on one message of each
//! path and compares them with the committed figures, so that no change makes a path dearer
//! unnoticed. Instructions and not time: they are the same on every run.
//!
//! A path is run twice, with N and with 2 N messages, under valgrind's instruction counter; the
//! difference over N is the cost of one message, without start-up and warming.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The committed figures.
const FIGURES: &str = "xtask/bench-guard.tsv";
/// A path may grow by this much over its figure.
const GROWTH_MAX_PERCENT: f64 = 5.0;
/// The same if the figures were made with another compiler or processor.
const GROWTH_MAX_ELSEWHERE_PERCENT: f64 = 25.0;
/// The line of the figures' file that names compiler and processor.
const MADE_WITH: &str = "# made with: ";
/// Processor features by which the libraries choose their code.
const FEATURES: [&str; 2] = ["avx2", "avx512bw"];

/// Path -> instructions per message.
type Figures = BTreeMap<String, u64>;

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let Some(counted) = count(root)? else {
        return Ok(());
    };
    let text = fs::read_to_string(root.join(FIGURES)).map_err(|error| error.to_string())?;
    let made_with = text
        .lines()
        .find_map(|line| line.strip_prefix(MADE_WITH))
        .unwrap_or_default();
    let here = place();
    let tolerance = if made_with == here {
        GROWTH_MAX_PERCENT
    } else {
        println!(
            "bench-guard: the figures were made with {made_with}, this is {here}: \
             {GROWTH_MAX_ELSEWHERE_PERCENT} % of growth are allowed"
        );
        GROWTH_MAX_ELSEWHERE_PERCENT
    };
    let (report, problems) = compare(&parse(&text)?, &counted, tolerance);
    print!("{report}");
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nbench-guard: if that is what the change is worth: cargo xtask bench-guard --bless",
        problems.join("\n")
    ))
}

pub(crate) fn bless(root: &Path) -> Result<(), String> {
    let Some(counted) = count(root)? else {
        return Err("bench-guard: nothing was counted".to_owned());
    };
    let mut text = format!(
        "# Instructions per message of the hot paths: `cargo xtask bench-guard --bless` writes this file.\n\
         {MADE_WITH}{}\n",
        place()
    );
    for (path, instructions) in &counted {
        let _ = writeln!(text, "{path}\t{instructions}");
    }
    print!("{text}");
    fs::write(root.join(FIGURES), text).map_err(|error| error.to_string())
}

fn parse(text: &str) -> Result<Figures, String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (path, instructions) = line.split_once('\t')?;
            Some((path.to_owned(), instructions.parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{FIGURES}: a line is no path, tab and number"))
}

/// A table for people, and what is wrong.
fn compare(figures: &Figures, counted: &Figures, tolerance: f64) -> (String, Vec<String>) {
    let mut report = String::new();
    let mut problems = Vec::new();
    for (path, now) in counted {
        let Some(before) = figures.get(path) else {
            problems.push(format!("bench-guard: {path} has no figure yet"));
            continue;
        };
        let growth = (*now as f64 / *before as f64 - 1.0) * 100.0;
        let hint = if growth < -GROWTH_MAX_PERCENT {
            "  (bless it, so that the gain stays)"
        } else {
            ""
        };
        let _ = writeln!(
            report,
            "{path:28} {before:8} -> {now:8} instructions {growth:+7.1} %{hint}"
        );
        if growth > tolerance {
            problems.push(format!(
                "bench-guard: {path} grew from {before} to {now} instructions per message ({growth:+.1} %)"
            ));
        }
    }
    for path in figures.keys().filter(|path| !counted.contains_key(*path)) {
        problems.push(format!("bench-guard: {path} has a figure but no path"));
    }
    (report, problems)
}

/// Builds and counts all paths. `None`: this machine has no counter.
fn count(root: &Path) -> Result<Option<Figures>, String> {
    let found = Command::new("valgrind").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("bench-guard: SKIPPED, NOTHING WAS COUNTED: there is no valgrind on this machine");
        return Ok(None);
    }
    let started = Instant::now();
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--profile", "guard"])
        .args(["--package", "guard"])
        .current_dir(root)
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err("bench-guard: the build failed".to_owned());
    }
    let built = started.elapsed();
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let program = target.join("guard/guard");
    let list = Command::new(&program)
        .arg("--list")
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let mut counted = Figures::new();
    for line in list.lines() {
        let (path, messages) = line.split_once('\t').ok_or("a path without its count")?;
        let messages: u64 = messages.parse().map_err(|_| "a count that is none")?;
        counted.insert(path.to_owned(), per_message(&program, path, messages)?);
    }
    println!(
        "bench-guard: {} paths; {:.0} s to build, {:.0} s to count",
        counted.len(),
        built.as_secs_f64(),
        (started.elapsed() - built).as_secs_f64()
    );
    Ok(Some(counted))
}

fn per_message(program: &Path, path: &str, messages: u64) -> Result<u64, String> {
    // Both at once: two cores are the least a machine has.
    let (once, twice) = std::thread::scope(|scope| {
        let once = scope.spawn(|| instructions(program, path, messages));
        let twice = instructions(program, path, messages * 2);
        (once.join(), twice)
    });
    let once = once.map_err(|_| "a counting thread panicked")??;
    Ok(twice?.saturating_sub(once).div_ceil(messages.max(1)))
}

/// Instructions of one whole run. The environment is empty: its size would move the stack.
fn instructions(program: &Path, path: &str, messages: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no"])
        .arg("--cachegrind-out-file=/dev/null")
        .arg(program)
        .arg(path)
        .arg(messages.to_string())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("bench-guard: {path} failed:\n{text}"));
    }
    refs(&text).ok_or_else(|| format!("bench-guard: no count in what valgrind says:\n{text}"))
}

/// The number in valgrind's line `==123== I   refs:      1,234,567`.
fn refs(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("refs:"))?;
    let number = line.split_once("refs:")?.1.trim().replace(',', "");
    number.split_whitespace().next()?.parse().ok()
}

/// What the figures depend on besides the code: compiler and processor.
fn place() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let version = version.map_or_else(
        |_| "an unknown compiler".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processor
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let features: Vec<&str> = FEATURES
        .into_iter()
        .filter(|feature| flags.split_whitespace().any(|flag| flag == *feature))
        .collect();
    format!(
        "{version}, {}, [{}]",
        std::env::consts::ARCH,
        features.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&str, u64)]) -> Figures {
        rows.iter()
            .map(|(path, number)| ((*path).to_owned(), *number))
            .collect()
    }

    #[test]
    fn growth_above_the_tolerance_is_a_problem_and_shrinking_is_not() {
        let before = figures(&[("a", 1000), ("b", 1000), ("c", 1000)]);
        let now = figures(&[("a", 1049), ("b", 1051), ("c", 500)]);
        let (report, problems) = compare(&before, &now, 5.0);
        assert_eq!(
            problems,
            ["bench-guard: b grew from 1000 to 1051 instructions per message (+5.1 %)"]
        );
        assert!(report.contains("bless it"), "{report}");
    }

    #[test]
    fn a_path_without_figure_and_a_figure_without_path_are_problems() {
        let (_, problems) = compare(&figures(&[("a", 1)]), &figures(&[("b", 1)]), 5.0);
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn the_count_is_read_and_so_are_the_figures() {
        assert_eq!(
            refs("==1== x\n==1== I   refs:      1,234,567\n"),
            Some(1_234_567)
        );
        assert_eq!(refs("==1== no count"), None);
        assert_eq!(parse("# x\na\t5\n").unwrap(), figures(&[("a", 5)]));
        assert!(parse("a 5\n").is_err());
    }
}
