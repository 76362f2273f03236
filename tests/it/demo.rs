//! `postern demo`: the whole of it, as a first user meets it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A kill-switch, not a speed test.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn demo_shows_everything_and_leaves_nothing_behind() {
    let mut demo = Demo::start();

    let status = demo.end();

    let told = demo.told();
    assert!(status.success(), "{told}\n{}", demo.complaints());
    for claim in [
        "the example that Adobe's HTTP API destination publishes",
        r#"held: reason="server_did_not_ask_for_certificate""#,
        "updates   acknowledged 22 = applied 22",
        "crm       made 21 = delivered 20 + waiting 0 + dead 1",
        "careless  made 21 = delivered 0 + waiting 21 + dead 0",
        "All of it held.",
    ] {
        assert!(told.contains(claim), "no `{claim}` in:\n{told}");
    }
    assert_eq!(demo.complaints(), "");
    assert_eq!(processes(&told).len(), 2, "one before the kill, one after");
    demo.assert_nothing_left();
}

#[test]
fn interrupted_demo_leaves_nothing_behind() {
    let mut demo = Demo::start();
    demo.wait_until(|demo| !processes(&demo.told()).is_empty());

    let pid = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());

    assert_eq!(demo.end().code(), Some(1));
    assert!(demo.complaints().contains("the demo was interrupted"), "{}", demo.complaints());
    demo.assert_nothing_left();
}

/// A demo at work, with a temporary directory of its own; dropping it kills it.
struct Demo {
    child: Child,
    output: TempDir,
    temporary: TempDir,
}

impl Demo {
    fn start() -> Self {
        let (output, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg("demo")
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self { child, output, temporary }
    }

    /// Waits until it has ended.
    fn end(&mut self) -> ExitStatus {
        self.wait_until(|demo| demo.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    fn wait_until(&mut self, met: impl Fn(&mut Self) -> bool) {
        let start = Instant::now();
        while !met(self) {
            assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain:\n{}\n{}", self.told(), self.complaints());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn told(&self) -> String {
        fs::read_to_string(self.output.path().join("stdout")).unwrap()
    }

    fn complaints(&self) -> String {
        fs::read_to_string(self.output.path().join("stderr")).unwrap()
    }

    fn assert_nothing_left(&self) {
        for process in processes(&self.told()) {
            assert!(!Path::new("/proc").join(&process).exists(), "process {process} is still there");
        }
        let files: Vec<_> = fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(files.is_empty(), "left behind: {files:?}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ids of the appliance's processes, as told.
fn processes(told: &str) -> Vec<String> {
    let after = told.split("process ").skip(1);
    after.map(|text| text.chars().take_while(char::is_ascii_digit).collect()).collect()
}
