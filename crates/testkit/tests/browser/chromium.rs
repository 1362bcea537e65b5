//! A real Chromium without a window, driven by the dozen commands of its DevTools protocol that a test needs.
//!
//! The crates that speak all of it are generated from its definitions, a hundred thousand lines to compile for these few.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dewar_testkit::{Guarded, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tungstenite::{Message, WebSocket};

/// Longest that anything in the browser may take on a slow machine.
pub const LIMIT: Duration = Duration::from_secs(90);

/// A browser with one page.
pub struct Chromium {
    socket: WebSocket<TcpStream>,
    /// The page's.
    session: Option<String>,
    last_id: u64,
    /// What the console complained of, and requests that left the broker.
    problems: Vec<String>,
    /// Where all requests must go.
    origin: String,
    _process: Guarded,
}

impl Chromium {
    /// Starts it with a profile in `folder`, to look at pages of `origin` alone. None if it is not installed.
    pub fn start(folder: &Path, origin: &str) -> Result<Option<Self>> {
        let profile = folder.join("profile");
        let mut command = Command::new("chromium");
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--no-first-run",
                "--disable-gpu",
            ])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .args([
                "--disable-component-update",
                "--disable-extensions",
                "--hide-scrollbars",
            ])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if Command::new("chromium").arg("--version").output().is_err() {
            return Ok(None);
        }
        let process = Guarded::start("chromium", &mut command)?;
        let port_file = profile.join("DevToolsActivePort");
        let mut at = None;
        wait_until("Chromium to start", LIMIT, || {
            let text = fs::read_to_string(&port_file).unwrap_or_default();
            let mut lines = text.lines();
            at = lines
                .next()
                .map(str::to_owned)
                .zip(lines.next().map(str::to_owned));
            Ok(at.is_some())
        })?;
        let (port, path) = at.context("the file has two lines")?;
        let stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream)
            .map_err(|error| anyhow!("no DevTools: {error}"))?;
        let mut chromium = Self {
            socket,
            session: None,
            last_id: 0,
            problems: Vec::new(),
            origin: origin.to_owned(),
            _process: process,
        };
        let target = chromium.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = chromium.call("Target.attachToTarget", attach)?;
        chromium.session = attached["sessionId"].as_str().map(str::to_owned);
        ensure!(chromium.session.is_some(), "no session: {attached}");
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(Some(chromium))
    }

    /// One command, and what it gives.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(message.to_string()))?;
        loop {
            let answer = self.socket.read().with_context(|| method.to_owned())?;
            let Message::Text(text) = answer else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["id"] == id {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                self.problems
                    .push(format!("exception: {}", params["exceptionDetails"]));
            }
            "Runtime.consoleAPICalled"
                if params["type"] == "error" || params["type"] == "warning" =>
            {
                self.problems.push(format!("console: {}", params["args"]));
            }
            "Log.entryAdded" => {
                let entry = &params["entry"];
                if entry["level"] == "error" || entry["level"] == "warning" {
                    self.problems
                        .push(format!("log: {} at {}", entry["text"], entry["url"]));
                }
            }
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                let is_ours = url.starts_with(&self.origin) || url.starts_with("data:");
                if !is_ours {
                    self.problems.push(format!("asked for {url}"));
                }
            }
            _ => {}
        }
    }

    /// What was complained of since this was last asked.
    pub fn problems(&mut self) -> Result<Vec<String>> {
        // Whatever came before the answer has been noted.
        self.eval("1")?;
        Ok(std::mem::take(&mut self.problems))
    }

    /// The value of an expression in the page.
    pub fn eval(&mut self, expression: &str) -> Result<Value> {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params)?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true in the page.
    pub fn wait_for(&mut self, what: &str, expression: &str) -> Result<()> {
        wait_until(what, LIMIT, || {
            // While it goes from one page to another there is nothing to ask.
            Ok(self.eval(expression).is_ok_and(|value| value == true))
        })
        .with_context(|| format!("the page is {}", self.text().unwrap_or_default()))
    }

    /// What can be read in the page.
    pub fn text(&mut self) -> Result<String> {
        let text = self.eval("document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Goes to a page, and waits until it is there.
    pub fn go(&mut self, url: &str) -> Result<()> {
        // A page of the same path would seem to be there at once.
        self.eval("window.leaving = true")?;
        let gone = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(gone["errorText"].is_null(), "{url}: {}", gone["errorText"]);
        self.wait_for(url, "!window.leaving && document.readyState === 'complete'")
    }

    /// Presses a key, as a person would.
    pub fn press(&mut self, key: &str, code: u32) -> Result<()> {
        let mut down =
            json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            down["text"] = "\r".into();
        }
        self.call("Input.dispatchKeyEvent", down)?;
        let up = json!({ "type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", up)?;
        Ok(())
    }

    /// Makes the system's colours light or dark.
    pub fn prefer(&mut self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        Ok(())
    }

    /// Gives the window a size.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        Ok(())
    }

    /// Lets pages run scripts or not.
    pub fn allow_scripts(&mut self, allow: bool) -> Result<()> {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": !allow }),
        )?;
        Ok(())
    }

    /// What is seen, into a file.
    pub fn picture(&mut self, path: &Path) -> Result<()> {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let taken = self.call("Page.captureScreenshot", params)?;
        let data = taken["data"].as_str().context("a picture")?;
        fs::write(path, STANDARD.decode(data)?)?;
        Ok(())
    }
}
