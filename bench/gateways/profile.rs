//! Flame graphs: `perf` samples the stacks of a process, and each is drawn as wide as it is frequent.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Samples a second; odd, so that it does not keep step with timers.
const FREQUENCY: &str = "499";
const WIDTH: f64 = 1600.0;
const ROW: f64 = 16.0;
/// Narrower boxes are left out.
const NARROWEST: f64 = 0.5;

/// Samples a process for a while, and writes `NAME.svg`.
pub async fn record(pid: u32, during: Duration, dir: &Path, name: &str) {
    fs::create_dir_all(dir).unwrap();
    let data = dir.join(format!("{name}.perf"));
    let mut perf = tokio::process::Command::new("perf");
    perf.args(["record", "-q", "-F", FREQUENCY, "--call-graph", "dwarf,16384", "-p", &pid.to_string(), "-o"]);
    perf.arg(&data).args(["--", "sleep", &during.as_secs().to_string()]).stdout(Stdio::null());
    match perf.status().await {
        Ok(status) if status.success() => {}
        _ => return eprintln!("`perf` cannot sample process {pid}: no flame graph of {name}"),
    }
    let script = Command::new("perf").args(["script", "-F", "ip,sym", "-i"]).arg(&data).output().unwrap();
    let stacks = folded(&String::from_utf8_lossy(&script.stdout));
    fs::write(dir.join(format!("{name}.svg")), drawn(name, &stacks)).unwrap();
    let _ = fs::remove_file(data);
}

/// A function, and what it called; how many samples were in it.
#[derive(Default)]
struct Frame {
    samples: usize,
    callees: BTreeMap<String, Frame>,
}

/// Samples are separated by empty lines; the innermost function comes first.
fn folded(script: &str) -> Frame {
    let mut root = Frame::default();
    for sample in script.split("\n\n") {
        let functions = sample.lines().filter_map(|line| line.trim().split_once(' ')).map(|(_, name)| name);
        let functions: Vec<&str> = functions.collect();
        if functions.is_empty() {
            continue;
        }
        root.samples += 1;
        let mut frame = &mut root;
        for function in functions.into_iter().rev() {
            frame = frame.callees.entry(function.to_owned()).or_default();
            frame.samples += 1;
        }
    }
    root
}

fn drawn(name: &str, root: &Frame) -> String {
    let height = ROW * (depth(root) as f64 + 2.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' font-family='monospace' font-size='11'>\
         <text x='4' y='12'>{name}: {} samples</text>\n",
        root.samples
    );
    if root.samples > 0 {
        draw(root, 0.0, height - ROW, WIDTH / root.samples as f64, &mut svg);
    }
    svg + "</svg>\n"
}

fn depth(frame: &Frame) -> usize {
    frame.callees.values().map(depth).max().map_or(0, |deepest| deepest + 1)
}

/// Draws the callees of a frame, from `x` on, each `scale` wide per sample.
fn draw(frame: &Frame, mut x: f64, y: f64, scale: f64, svg: &mut String) {
    for (function, callee) in &frame.callees {
        let width = callee.samples as f64 * scale;
        if width >= NARROWEST {
            let name = function.replace('&', "&amp;").replace('<', "&lt;");
            let shown: String = function.chars().take((width / 6.8) as usize).collect();
            let shown = shown.replace('&', "&amp;").replace('<', "&lt;");
            let hue = 20 + function.bytes().map(usize::from).sum::<usize>() % 35;
            let _ = writeln!(
                svg,
                "<g><title>{name} ({} samples)</title><rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{:.1}' \
                 fill='hsl({hue},80%,65%)'/><text x='{:.1}' y='{:.1}'>{shown}</text></g>",
                callee.samples,
                ROW - 1.0,
                x + 2.0,
                y + 11.0,
            );
            draw(callee, x, y - ROW, scale, svg);
        }
        x += width;
    }
}
