//! A run's page in a real browser: what no parser sees.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    browser::{self, Browser},
    steps::target_dir,
};

const NO_BROWSER: u8 = 3;
/// Virtual key codes.
const TAB: (&str, u32) = ("Tab", 9);
const RIGHT: (&str, u32) = ("ArrowRight", 39);
const ESCAPE: (&str, u32) = ("Escape", 27);

/// Elements that the Tab key must stop at: visible, of a radio group the chosen one.
const STOPS: &str = r"
    globalThis.stops = [...document.querySelectorAll('a[href], button, input, summary, [tabindex]')].filter((e) =>
        e.tabIndex >= 0 && e.checkVisibility({ visibilityProperty: true }) && (e.type !== 'radio' || e.checked));
    globalThis.reached = new Set();
    stops.length";

/// Opens `report.html` of a run directory, checks it, leaves screenshots in `target/report-check/`.
pub(crate) fn run(directory: &Path) -> Result<ExitCode> {
    let Some(name) = browser::find() else {
        eprintln!("no Chromium on this machine (`apt-get install chromium` has one): nothing was checked");
        return Ok(ExitCode::from(NO_BROWSER));
    };
    let page = directory.join("report.html");
    let page =
        page.canonicalize().with_context(|| format!("{}: no page; `logitfuse report` makes it", page.display()))?;
    let out = target_dir().join("report-check");
    fs::create_dir_all(&out)?;
    let profile = out.join(format!("browser-{}", std::process::id()));
    fs::create_dir(&profile)?;
    let checked = check(name, &format!("file://{}", page.display()), &profile, &out);
    // What a dying browser still writes may stay: it lies in the target directory.
    let _ = fs::remove_dir_all(&profile);
    checked?;
    eprintln!("no error; screenshots in {}", out.display());
    Ok(ExitCode::SUCCESS)
}

fn check(name: &str, url: &str, profile: &Path, out: &Path) -> Result<()> {
    let mut browser = Browser::start(name, profile)?;
    for (view, width, scheme) in [("desktop", 1200, "light"), ("desktop", 1200, "dark"), ("phone", 360, "light")] {
        look(&mut browser, width, scheme)?;
        browser.open(url)?;
        fits(&mut browser, view)?;
        shoot(&mut browser, &out.join(format!("{view}-{scheme}.png")))?;
        quiet(&browser, url)?;
        eprintln!("{view}, {scheme}: nothing on the console, nothing fetched, nothing wider than the window");
    }
    look(&mut browser, 1200, "light")?;
    browser.open(url)?;
    keyboard(&mut browser)?;
    theme(&mut browser)?;
    quiet(&browser, url)?;
    forbids(&mut browser)?;
    without_scripts(&mut browser, url)
}

fn look(browser: &mut Browser, width: u32, scheme: &str) -> Result<()> {
    let screen = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
    browser.call("Emulation.setDeviceMetricsOverride", &screen)?;
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.call("Emulation.setEmulatedMedia", &features)?;
    Ok(())
}

/// No error on the console, no exception, no request but the page's own.
fn quiet(browser: &Browser, url: &str) -> Result<()> {
    for (method, params) in &browser.events {
        let wrong = match method.as_str() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => params["type"] == "error",
            "Log.entryAdded" => params["entry"]["level"] == "error",
            "Network.requestWillBeSent" => {
                let asked = params["request"]["url"].as_str().unwrap_or_default();
                !asked.starts_with("data:") && asked.split('#').next() != Some(url)
            }
            _ => false,
        };
        ensure!(!wrong, "{method}: {params}");
    }
    Ok(())
}

/// The page itself never scrolls sideways, with everything folded open too.
fn fits(browser: &mut Browser, view: &str) -> Result<()> {
    let open = "document.querySelectorAll('details').forEach((d) => { d.dataset.was = d.open; d.open = true })";
    let fold = "document.querySelectorAll('details').forEach((d) => { d.open = d.dataset.was === 'true' })";
    for script in ["", open] {
        browser.evaluate(script)?;
        let over = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
        ensure!(over == json!(0), "{view}: the page is {over} pixels wider than the window");
    }
    browser.evaluate(fold)?;
    Ok(())
}

/// Every stop is reached with Tab alone; arrows move within a ribbon, its panel opens and Escape closes it.
fn keyboard(browser: &mut Browser) -> Result<()> {
    let stops = browser.evaluate(STOPS)?.as_u64().context("no count of stops")?;
    for _ in 0..stops + 2 {
        browser.press(TAB.0, TAB.1)?;
        browser.evaluate("reached.add(document.activeElement)")?;
    }
    let missed = browser.evaluate("stops.filter((e) => !reached.has(e)).map((e) => e.outerHTML.slice(0, 90))")?;
    ensure!(missed == json!([]), "Tab does not reach {missed}");
    eprintln!("keyboard: Tab reaches all {stops} stops");
    if browser.evaluate("document.querySelector('.tokens .t') === null")? == json!(true) {
        return Ok(());
    }
    browser.evaluate("document.querySelector('.tokens .t').focus()")?;
    browser.press(RIGHT.0, RIGHT.1)?;
    let second = "document.activeElement === document.querySelectorAll('.tokens .t')[1]";
    ensure!(browser.evaluate(second)? == json!(true), "the arrow key does not go to the next token");
    let panel = "(() => { const t = document.querySelector('.tip'); return t.checkVisibility() && t.querySelector('td') !== null })()";
    ensure!(browser.evaluate(panel)? == json!(true), "the panel of a token does not open");
    browser.press(ESCAPE.0, ESCAPE.1)?;
    ensure!(browser.evaluate(panel)? == json!(false), "Escape does not close the panel");
    eprintln!("keyboard: arrows move from token to token, Escape closes the panel");
    Ok(())
}

/// The switch changes the colours against what the system says.
fn theme(browser: &mut Browser) -> Result<()> {
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.evaluate(ground)?;
    browser.evaluate("document.querySelector('.theme').click()")?;
    let dark = browser.evaluate(ground)?;
    ensure!(light != dark, "the switch of the theme changes nothing: {light}");
    Ok(())
}

/// What a sample would have smuggled in does nothing: a script, a handler, a style.
const SMUGGLED: &str = r#"
    document.body.insertAdjacentHTML('beforeend',
        '<button id="smuggled" onclick="globalThis.ran = true" style="position: fixed">x</button>');
    globalThis.smuggled = document.getElementById('smuggled');
    document.body.append(Object.assign(document.createElement('script'), { textContent: 'globalThis.ran = true' }));
    smuggled.click();
    globalThis.ran === undefined && getComputedStyle(smuggled).position !== 'fixed'"#;

fn forbids(browser: &mut Browser) -> Result<()> {
    ensure!(browser.evaluate(SMUGGLED)? == json!(true), "the policy of the page lets foreign scripts or styles in");
    eprintln!("a script, a handler and a style from elsewhere do nothing");
    Ok(())
}

/// Tables and figures are there without any script.
fn without_scripts(browser: &mut Browser, url: &str) -> Result<()> {
    browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }))?;
    browser.open(url)?;
    let seen = "[...document.querySelectorAll('svg.figure, table')].filter((e) => e.checkVisibility()).length";
    let count = browser.evaluate(seen)?;
    ensure!(count.as_u64().is_some_and(|n| n > 1), "without scripts only {count} tables and figures are visible");
    let button = browser.evaluate("document.querySelector('.theme') === null")?;
    ensure!(button == json!(true), "scripts were not off");
    eprintln!("without scripts: {count} tables and figures visible");
    Ok(())
}

/// The whole page, however long.
fn shoot(browser: &mut Browser, path: &Path) -> Result<()> {
    let size = browser.call("Page.getLayoutMetrics", &json!({}))?["cssContentSize"].take();
    // What is longer than this no longer fits into a texture.
    let height = size["height"].as_f64().unwrap_or(900.0).min(16_000.0);
    let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
    let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
    let answer: Value = browser.call("Page.captureScreenshot", &shot)?;
    let text = answer["data"].as_str().context("no picture")?;
    fs::write(path, BASE64_STANDARD.decode(text)?).with_context(|| path.display().to_string())
}
