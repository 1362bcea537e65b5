//! The broker's web page in a real Chromium, while the real programs work.
//!
//! Part of `cargo xtask test --system`, since Chromium is large: `cargo test -p dewar-testkit --test browser -- --ignored`
//! runs it alone. Pictures of what was seen lie in `target/browser` afterwards.

mod chromium;

use anyhow::{Context as _, Result, ensure};
use chromium::{Chromium, LIMIT};
use dewar_testkit::{
    Broker, BrokerOptions, Programs, Signal, WorkerOptions, output,
    refinement::{Case, json},
    wait_until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A name that would be markup if anybody took it for that.
const HOSTILE: &str = "<img src=x onerror=document.title='hit'>.star";

/// All text that is seen, and how it stands out from what is behind it, by WCAG 2: those below what it asks for.
const FAINT: &str = r"(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
  const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const ground = parse(getComputedStyle(at).backgroundColor);
      if (ground.a === 1) return ground;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
    const style = getComputedStyle(element);
    if (!own || !element.getClientRects().length || element.closest('.unseen')) continue;
    const ink = parse(element.ownerSVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${element.tagName} ${element.className}: ${ratio.toFixed(1)} ${element.textContent.slice(0, 30)}`);
  }
  return faint;
})()";

struct Lab {
    programs: Programs,
    broker: Broker,
    folder: PathBuf,
    case: Case,
}

impl Lab {
    fn start(folder: &Path) -> Result<Self> {
        let programs = Programs::beside_test()?;
        let data = folder.join("data");
        let set = [
            "--particles",
            "1500",
            "--snr",
            "0.5",
            "--box",
            "48",
            "--pixel-size",
            "5",
            "--seed",
            "5",
        ];
        let flags = ["--iterations", "4", "--diameter", "170"];
        let mut case = Case::simulate(&programs, &data, &set, &flags)?;
        let hostile = data.join(HOSTILE);
        fs::copy(&case.particles, &hostile)?;
        case.particles = hostile;
        let broker = programs.start_broker(&BrokerOptions {
            data_dir: folder.join("broker"),
            exports: vec![data],
            listen: "127.0.0.1:0".to_owned(),
        })?;
        Ok(Self {
            programs,
            broker,
            folder: folder.to_owned(),
            case,
        })
    }

    fn worker(&self, name: &str) -> Result<dewar_testkit::Guarded> {
        let options = WorkerOptions {
            name: name.to_owned(),
            slot_count: 1,
            cache_dir: self.folder.join(format!("cache-{name}")),
        };
        self.programs.start_worker(&self.broker, &options)
    }

    fn origin(&self) -> String {
        format!("http://{}", self.broker.address)
    }
}

fn pictures() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/PROFILE/deps/TEST
    let target = test
        .ancestors()
        .nth(3)
        .context("tests lie in target/PROFILE/deps")?;
    let folder = target.join("browser");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A picture in light and one in dark, and that all text can be read in both.
fn look(chromium: &mut Chromium, name: &str) -> Result<()> {
    for scheme in ["dark", "light"] {
        chromium.prefer(scheme)?;
        chromium.picture(&pictures()?.join(format!("{name}-{scheme}.png")))?;
        let faint = chromium.eval(FAINT)?;
        ensure!(
            faint.as_array().is_some_and(Vec::is_empty),
            "{name} in {scheme}: {faint}"
        );
    }
    Ok(())
}

/// Presses Tab until what an expression names has the focus, and is seen to have it.
fn tab_to(chromium: &mut Chromium, selector: &str) -> Result<()> {
    for _ in 0..80 {
        chromium.press("Tab", 9)?;
        let reached = format!("document.activeElement.matches({selector:?})");
        if chromium.eval(&reached)? == true {
            let outline = chromium.eval("getComputedStyle(document.activeElement).outlineStyle")?;
            ensure!(
                outline == "solid",
                "{selector} has the focus, and nobody sees it"
            );
            return Ok(());
        }
    }
    anyhow::bail!("the keyboard does not reach {selector}")
}

/// Waits until the page has asked anew.
fn freshen(chromium: &mut Chromium) -> Result<()> {
    let asked = chromium.eval("document.querySelector('#live span').textContent")?;
    let fresh = format!("document.querySelector('#live span').textContent !== {asked}");
    chromium.wait_for("a fresh page", &fresh)
}

#[test]
#[ignore = "needs Chromium: cargo xtask test --system"]
fn a_browser_shows_a_live_broker() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::start(folder.path())?;
    let origin = lab.origin();
    let Some(mut chromium) = Chromium::start(folder.path(), &origin)? else {
        anyhow::bail!("there is no Chromium (Debian: apt-get install chromium)");
    };
    chromium.resize(1280, 900)?;

    // Nobody looks without a token; the link carries one, and leaves none in the address.
    let mut web = lab.programs.dewar();
    let link = output(web.arg("web").args(lab.broker.flags()))?;
    chromium.go(&format!("{origin}/sign-in"))?;
    look(&mut chromium, "sign-in")?;
    ensure!(
        chromium.eval("document.activeElement.id")? == "token",
        "one may type at once"
    );
    chromium.go(link.trim())?;
    chromium.wait_for("the overview", "!!document.querySelector('#jobs')")?;
    ensure!(chromium.eval("location.href")? == format!("{origin}/"));
    ensure!(
        chromium.eval("document.cookie")? == "",
        "no script reads the cookie"
    );
    ensure!(
        chromium.text()?.contains("None attends"),
        "an empty broker says what to do"
    );
    look(&mut chromium, "empty")?;

    // Work comes; the page follows without being loaded again.
    chromium.eval("window.stayed = true")?;
    let steady = lab.worker("steady")?;
    let doomed = lab.worker("doomed")?;
    let out = folder.path().join("refined");
    let mut refinement = lab.case.start_refine(&lab.programs, &lab.broker, &out)?;
    chromium.wait_for(
        "both workers",
        "document.querySelectorAll('[id^=worker-]').length === 2",
    )?;
    chromium.wait_for("the job", "!!document.querySelector('#job-1')")?;
    chromium.wait_for(
        "its first tasks",
        "document.querySelector('#job-1 progress').value > 0",
    )?;
    let done = chromium.eval("document.querySelector('#job-1 progress').value")?;
    let more = format!("document.querySelector('#job-1 progress').value > {done}");
    chromium.wait_for("more of its tasks", &more)?;
    chromium.wait_for("the chart to rise", "new Set((document.querySelector('.chart .line-0').getAttribute('points') || '').split(' ').map((p) => p.split(',')[1])).size > 1")?;
    ensure!(
        chromium.eval("window.stayed === true")? == true,
        "it was loaded anew"
    );
    ensure!(
        chromium.text()?.contains(HOSTILE),
        "names are shown as they are"
    );

    // A worker dies: what was lost on it is told with its text.
    let runs = "[...document.querySelectorAll('[id^=worker-]')].find((row) => row.innerText.includes('doomed')).querySelector('progress').value === 1";
    wait_until("a task on the worker that dies", LIMIT, || {
        // Held still, so that it has the task when it dies.
        doomed.signal(Signal::STOP)?;
        freshen(&mut chromium)?;
        freshen(&mut chromium)?;
        let has_one = chromium.eval(runs)? == true;
        if !has_one {
            doomed.signal(Signal::CONT)?;
        }
        Ok(has_one)
    })?;
    doomed.kill()?;
    chromium.wait_for(
        "the failure",
        "document.querySelector('#failures').parentElement.innerText.includes('doomed was lost')",
    )?;
    chromium.wait_for(
        "one worker less",
        "document.querySelectorAll('[id^=worker-]').length === 1",
    )?;
    look(&mut chromium, "overview")?;

    // From the keyboard alone to the job, and the focus survives a fresh page.
    chromium.eval("document.activeElement.blur()")?;
    tab_to(&mut chromium, "#job-1 a")?;
    freshen(&mut chromium)?;
    ensure!(
        chromium.eval("document.activeElement.matches('#job-1 a')")? == true,
        "the focus is lost"
    );
    chromium.press("Enter", 13)?;
    chromium.wait_for(
        "the job's page",
        "location.pathname === '/jobs/j1' && !!document.querySelector('#tasks')",
    )?;
    ensure!(
        chromium
            .eval("document.title")?
            .as_str()
            .is_some_and(|title| title.starts_with("j1"))
    );
    look(&mut chromium, "job")?;
    tab_to(&mut chromium, ".states a[href*='state=failed']")?;

    // The report grows in its frame.
    chromium.wait_for(
        "the report",
        "!!document.querySelector('a[href=\"/jobs/j1/report\"]')",
    )?;
    chromium.go(&format!("{origin}/jobs/j1/report"))?;
    chromium.eval("window.stayed = true")?;
    let version = "new URL(document.querySelector('iframe').src).searchParams.get('version')";
    let first = chromium.eval(version)?;
    look(&mut chromium, "report")?;
    chromium.wait_for("a later report", &format!("{version} !== {first}"))?;
    ensure!(
        chromium.eval("window.stayed === true")? == true,
        "it was loaded anew"
    );

    chromium.go(&format!("{origin}/"))?;
    tab_to(&mut chromium, "[id^=worker-] a")?;
    chromium.press("Enter", 13)?;
    chromium.wait_for("the worker's page", "!!document.querySelector('#tries')")?;
    look(&mut chromium, "worker")?;
    // Paused, it stays as it is.
    chromium.eval("document.querySelector('#live button').click()")?;
    ensure!(chromium.text()?.contains("Paused at"));
    let problems = chromium.problems()?;
    ensure!(problems.is_empty(), "{problems:#?}");

    // The refinement ends, and the page says what the command does.
    let patience = Duration::from_secs(600);
    wait_until("the refinement", patience, || Ok(!refinement.is_running()?))?;
    let jobs = json(
        lab.programs
            .dewar()
            .args(["jobs", "--json"])
            .args(lab.broker.flags()),
    )?;
    let told = jobs["jobs"][0]["state"]
        .as_str()
        .context("a state")?
        .to_owned();
    chromium.go(&format!("{origin}/"))?;
    chromium.wait_for(
        "the end",
        &format!("document.querySelector('#job-1').innerText.includes({told:?})"),
    )?;

    // On a narrow screen nothing sticks out.
    chromium.resize(420, 900)?;
    let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    ensure!(chromium.eval(fits)? == true, "it is wider than the window");
    look(&mut chromium, "narrow")?;
    chromium.resize(1280, 900)?;

    // Without scripts all of it is there, and asks for itself now and then.
    chromium.allow_scripts(false)?;
    chromium.go(&format!("{origin}/"))?;
    ensure!(chromium.text()?.contains("steady"));
    look(&mut chromium, "without-scripts")?;
    chromium.allow_scripts(true)?;

    // Signed out, one looks no more.
    chromium.go(&format!("{origin}/"))?;
    let problems = chromium.problems()?;
    ensure!(problems.is_empty(), "{problems:#?}");
    chromium.eval("document.querySelector('header form').submit()")?;
    chromium.wait_for(
        "the form",
        "location.pathname === '/sign-in' && !!document.querySelector('#token')",
    )?;
    chromium.go(&format!("{origin}/jobs/j1"))?;
    ensure!(chromium.text()?.contains("Sign in to look"));
    steady.stop()?;
    lab.broker.stop()
}
