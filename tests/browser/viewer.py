"""The documentation page as a person uses it, in headless Chromium."""

import base64
import json
import pathlib
import shutil
import urllib.parse

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60

# No host but the server's has an address; without the background flags the
# browser itself would look for its makers'.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class Viewer:
    """A browser with a profile of its own. It remembers every request."""

    def __init__(self, width=1280, height=1000, dark=False):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in [*FLAGS, f"--window-size={width},{height}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.browser = webdriver.Chrome(options=options, service=service)
        # Headless windows have a least width; phones are narrower.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.quit()

    def wait(self, condition, what):
        """Waits until the condition gives something, and returns it."""
        return WebDriverWait(self.browser, PATIENCE).until(lambda _: condition(), what)

    def all(self, selector, within=None):
        return (within or self.browser).find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, within=None):
        """The element, as soon as it is there."""
        return self.wait(lambda: next(iter(self.all(selector, within)), None), selector)

    def click(self, selector, within=None):
        element = self.one(selector, within)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.wait(lambda: element.is_displayed() and element.is_enabled(), selector)
        element.click()

    def open(self, url):
        self.browser.get(url)
        self.one(".opblock")

    def picture(self, file, whole=False):
        """Draws what is in the window, or the whole page."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            size = self.browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"], "height": size["height"]}
            parameters = {"captureBeyondViewport": True, "clip": clip}
            data = self.browser.execute_cdp_cmd("Page.captureScreenshot", parameters)["data"]
            pathlib.Path(file).write_bytes(base64.b64decode(data))
        else:
            self.browser.save_screenshot(str(file))

    def authorize(self, key):
        """Fills the key in, as a person does."""
        self.click(".auth-wrapper .authorize")
        self.one(".modal-ux input").send_keys(key)
        self.click(".modal-ux .auth-btn-wrapper .authorize")
        self.click(".modal-ux .btn-done")

    def operation(self, name):
        """The block of an operation, opened."""
        block = self.one(f"#operations-executions-{name}")
        if "is-open" not in block.get_attribute("class"):
            self.click(".opblock-summary-control", block)
            self.one(".execute-wrapper", block)
        return block

    def choose_form(self, block):
        """Chooses to submit as a form."""
        Select(self.one(".body-param-content-type select, .content-type-wrapper select", block)
               ).select_by_value("multipart/form-data")
        self.one("[data-property-name=files]", block)

    def attach(self, block, file):
        """Chooses a file for the field `files`."""
        row = self.one("[data-property-name=files]", block)
        if not self.all("input[type=file]", row):
            self.click(".json-schema-form-item-add", row)
        self.one("input[type=file]", row).send_keys(str(file))

    def fill(self, block, name, value):
        """Fills a parameter in."""
        field = self.one(f"[data-param-name={name}] input", block)
        field.clear()
        field.send_keys(str(value))

    def unfold(self, selector):
        """Opens the first of what can be folded, as soon as it is there."""
        script = (
            "const found = document.querySelector(arguments[0]);"
            "if (found) found.open = true;"
            "return found !== null"
        )
        self.wait(lambda: self.browser.execute_script(script, selector), selector)

    def execute(self, block):
        """Sends the call; returns status and body of the answer."""
        for clear in self.all(".btn-clear", block):
            clear.click()
            self.wait(lambda: not self.all(".live-responses-table", block), "a clear block")
        self.click(".execute", block)
        status = self.one(".live-responses-table tbody .response-col_status", block).text.split()[0]
        body = self.one(".live-responses-table tbody .response-col_description pre", block)
        return int(status), json.loads(body.get_attribute("textContent"))

    def faults(self):
        """Every error in the console, what the page's policy stopped among
        them, and every request to another place."""
        log = self.browser.get_log("browser")
        faults = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                place = urllib.parse.urlsplit(url)
                if place.scheme not in ("data", "blob") and place.hostname != "127.0.0.1":
                    faults.append(f"a request to {url[:200]}")
        return faults
