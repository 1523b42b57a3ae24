"""The page of a server of t2-nano in a real browser: Debian's chromium, driven by selenium.

Skipped where the browser, its driver (chromium-driver) or selenium is absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from t2agent import T2Model
from t2agent.nano.tasks import TASKS
from t2agent.server.app import ServerOptions
from t2agent.server.served import Served
from tests.unit.server.conftest import KEY, running

pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)

SUM = "What is 7 * 3 + 12?"
SECONDS = 60


class Page:
    """The page as a reader sees and uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, place: str = "") -> None:
        """Load it anew, logged in as a browser does it."""
        self.driver.get("about:blank")
        self.driver.get(self.url.replace("//", f"//reader:{KEY}@") + f"/{place}")
        self.wait("#model option")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, selector: str, count: int = 1) -> list[WebElement]:
        """The elements, once there are so many."""
        WebDriverWait(self.driver, SECONDS, 0.05).until(
            lambda _: len(self.all(selector)) >= count, f"{selector} in {self.one('body').text}"
        )
        return self.all(selector)

    def choose(self, selector: str, text: str) -> None:
        Select(self.one(selector)).select_by_visible_text(text)

    def say(self, text: str) -> None:
        self.one("#text").send_keys(text + Keys.ENTER)

    def replies(self, count: int = 1) -> list[str]:
        """What is said in the replies, once so many are whole."""
        self.wait(".reply[aria-busy=false]", count)
        return [one.text for one in self.all(".reply .said")]

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def answer(self, **body: Any) -> Any:
        """What the API says itself."""
        headers = {"Authorization": f"Bearer {KEY}"}
        found = httpx.post(
            f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=SECONDS
        )
        return found.json()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{option}")
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    served = Served([T2Model.from_pretrained("t2-nano")], rows=4)
    with running(served, ServerOptions(key=KEY)) as url:
        yield url


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[Page]:
    """The page, opened; at the end nothing may have been thrown or been refused by its policy."""
    found = Page(browser, address)
    found.open()
    yield found
    logged = [entry["message"] for entry in browser.get_log("browser")]
    wrong = [text for text in logged if "Security Policy" in text or "Uncaught" in text]
    assert not wrong


@pytest.fixture
def number(tmp_path: Path) -> tuple[Path, str]:
    """A picture of a number, and the number."""
    example = TASKS["read"].sample(1, seed=3, split="test")[0]
    assert example.image is not None
    example.image.save(tmp_path / "number.png")
    return tmp_path / "number.png", str(example.answer)


def test_the_page_allows_its_own_script_alone(page: Page) -> None:
    got = httpx.get(page.url, auth=("reader", KEY))
    policy = got.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page.run(
        "document.head.append(Object.assign(document.createElement('script'), {text: 'x = 1'}))"
    )
    assert page.run("return typeof x") == "undefined"
    page.driver.get_log("browser")  # that refusal


def test_chat(page: Page) -> None:
    page.say(SUM)
    first = page.replies()[0]
    messages = [{"role": "user", "content": SUM}]
    assert first == page.answer(messages=messages)["choices"][0]["message"]["content"]
    page.one("#max_tokens").clear()
    page.one("#max_tokens").send_keys("4")
    page.say("<b>Thanks</b> <img src=x onerror=alert(1)>")
    assert page.replies(2)[1]
    assert "ended by the limit of tokens" in page.all(".reply")[1].text
    assert page.all(".mine")[1].text == "<b>Thanks</b> <img src=x onerror=alert(1)>"
    assert [one["role"] for one in page.run("return threads.adapted.messages")] == [
        "user",
        "assistant",
    ] * 2
    page.one("#new").click()
    assert not page.all(".mine, .reply")
    assert page.run("return threads.adapted.messages") == []


def test_the_decision_is_shown(page: Page) -> None:
    page.say(SUM)
    page.replies()
    told = page.answer(messages=[{"role": "user", "content": SUM}], max_tokens=1)["t2agent"][
        "dispatch"
    ]
    shown = page.one(".decision").text
    assert "Decision: math=1" in shown
    assert f"Strategy\n{told['strategy']}" in shown
    assert "In scope\nyes" in shown
    assert "first pass" in shown
    assert "second pass" in shown
    bars = {bar.text.split("\n")[0]: bar for bar in page.all(".decision .bar")}
    assert set(bars) == {*told["scores"], "gate"}
    assert f"{told['gate']:.2g} ≥ {told['threshold']:.2g}" in bars["gate"].text
    widths = {
        name: bar.find_element(By.CSS_SELECTOR, "i").size["width"] for name, bar in bars.items()
    }
    whole = bars["math"].find_element(By.CSS_SELECTOR, ".track").size["width"]
    assert widths["math"] == pytest.approx(told["scores"]["math"] * whole, abs=2)
    assert widths["code"] == pytest.approx(told["scores"]["code"] * whole, abs=2)


def test_images_come_by_file_by_paste_and_by_drop(page: Page, number: tuple[Path, str]) -> None:
    place, wanted = number
    page.one("#file").send_keys(str(place))
    page.wait("#images img")
    page.say("What number is in the image?")
    assert wanted in page.replies()[0]
    assert "Decision: read=1" in page.one(".decision").text
    assert len(page.all(".mine img")) == 1

    give = """
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array([137, 80])], "a.png", {type: "image/png"}));
        const [kind, name] = arguments;
        const event = kind === "paste"
          ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
          : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
        document.querySelector(name).dispatchEvent(event);"""
    page.run(give, "paste", "#text")
    page.run(give, "drop", "#composer")
    page.wait("#images img", 2)
    page.one("#images button").click()
    assert len(page.all("#images img")) == 1

    page.run("models.forEach((one) => { one.modalities = ['text']; }); chooseModel();")
    assert not page.all("#images img")
    assert not page.one("#attach").is_displayed()
    page.run(give, "drop", "#composer")
    assert page.one("#notice").text == "t2-nano reads no images"


def test_sliders_mix_experts(page: Page) -> None:
    assert not page.one("#sliders").is_displayed()
    page.choose("#who", "A mixture by hand")
    page.one("#sliders input[name=math]").send_keys(Keys.ARROW_RIGHT * 14)
    page.one("#sliders input[name=json]").send_keys(Keys.ARROW_RIGHT * 6)
    assert page.one("#sent").text == "t2-nano:json=0.3+math=0.7"
    page.say(SUM)
    page.replies()
    assert "Decision: json=0.3 + math=0.7" in page.one(".decision").text
    page.choose("#who", "code")
    assert page.one("#sent").text == "t2-nano:code"


def test_side_by_side_each_has_its_own_conversation(page: Page) -> None:
    page.one("#both").click()
    page.choose("#who", "math")
    page.say(SUM)
    base, adapted = page.replies(2)
    assert base != adapted
    boxes = [one.rect for one in page.all(".turn .column")]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    page.say("Are you sure?")
    page.replies(4)
    said = page.run("return ['base', 'adapted'].map((name) => threads[name].messages[1].content)")
    assert said == [base, adapted]


def test_a_tool_call_is_shown_and_its_result_goes_on(page: Page) -> None:
    page.one("#example").click()
    page.choose("#tool_choice", "required")
    page.choose("#who", "tools")
    page.say("What is the weather in Oslo?")
    card = page.wait("form.call")[0]
    assert "get_weather" in card.text
    arguments = json.loads(card.find_element(By.CSS_SELECTOR, "pre").text)
    assert set(arguments) == {"city"}
    page.choose("#tool_choice", "auto")
    card.find_element(By.CSS_SELECTOR, "textarea").send_keys("14 degrees")
    card.find_element(By.CSS_SELECTOR, "button").click()
    page.replies(2)
    sent = page.run("return threads.adapted.messages")
    assert [one["role"] for one in sent] == ["user", "assistant", "tool", "assistant"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    assert sent[2]["content"] == "14 degrees"
    assert not card.find_element(By.CSS_SELECTOR, "button").is_displayed()


def test_the_keyboard_sends_breaks_lines_and_stops(page: Page) -> None:
    assert page.driver.switch_to.active_element == page.one("#text")
    page.one("#temperature").send_keys("10")  # nearly any token, so it does not end by itself
    page.one("#text").send_keys("Tell me", Keys.SHIFT + Keys.ENTER + Keys.NULL, "a story")
    assert page.one("#text").get_attribute("value") == "Tell me\na story"
    page.one("#text").send_keys(Keys.ENTER)
    WebDriverWait(page.driver, SECONDS, 0.05).until(lambda _: page.one(".said").text)
    assert not page.one("#send").is_enabled()
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    page.replies()
    assert "stopped" in page.one(".reply").text
    assert page.one("#send").is_enabled()
    page.one("#text").send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element == page.one("#send")
    assert page.one("#send").value_of_css_property("outline-style") == "solid"
    page.choose("#who", "A mixture by hand")
    fields = [one for one in page.all("textarea, select, input") if one.is_displayed()]
    assert len(fields) > 10
    assert all(one.accessible_name for one in fields)


def test_errors_are_shown_and_the_text_comes_back(page: Page) -> None:
    page.one("#temperature").send_keys("11")
    page.say(SUM)
    page.replies()
    told = page.answer(messages=[{"role": "user", "content": SUM}], temperature=11)["error"]
    assert told["message"] in page.one(".reply .bad").text
    assert page.one("#text").get_attribute("value") == SUM
    page.one("#tools").send_keys("[")
    page.one("#text").send_keys(Keys.ENTER)
    page.replies(2)
    assert "this is no JSON" in page.all(".reply .bad")[1].text
    assert page.run("return threads.adapted.messages") == []


def test_the_experts(page: Page) -> None:
    page.driver.find_element(By.LINK_TEXT, "Experts").click()
    page.wait(".card")
    headers = {"Authorization": f"Bearer {KEY}"}
    known = httpx.get(f"{page.url}/v1/experts", headers=headers).json()["data"]
    assert [one.text for one in page.all(".card h3")] == [one["name"] for one in known]
    math = page.one(".card[aria-label=math]")
    card = next(one for one in known if one["name"] == "math")
    assert card["description"] in math.text
    assert f"{card['parameters']:,}" in math.text
    assert card["license"] in math.text
    for summary in math.find_elements(By.CSS_SELECTOR, "summary"):
        summary.click()
    assert card["examples"][0] in math.text
    page.wait(".card[aria-label=math] tbody tr")
    assert page.run(
        "const image = arguments[0]; return image.decode().then(() => image.naturalWidth);",
        math.find_element(By.CSS_SELECTOR, "img"),
    )
    assert len(math.find_elements(By.CSS_SELECTOR, "polyline")) == 1
    page.choose(".card[aria-label=math] select", "code")
    page.wait(".card[aria-label=math] polyline", 2)
    found = httpx.get(f"{page.url}/v1/experts/math/diff?other=code", headers=headers).json()
    moved = [row.text.split()[2:4] for row in math.find_elements(By.CSS_SELECTOR, "tbody tr")]
    for column, name in enumerate(("moved_a", "moved_b")):
        assert sum(int(row[column]) for row in moved) == found[name]
    ask = math.find_element(By.CSS_SELECTOR, "li button")
    page.run("arguments[0].scrollIntoView({block: 'center'})", ask)
    ask.click()
    assert page.one("#text").get_attribute("value") == card["examples"][0]


def test_a_narrow_screen_needs_no_scrolling_aside(page: Page) -> None:
    screen = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wide = "return document.documentElement.scrollWidth"
    try:
        page.open()
        assert not page.one("#who").is_displayed()  # folded away
        page.one("#panel > summary").click()
        page.choose("#who", "A mixture by hand")
        page.one("#both").click()
        page.say(f"{SUM} {'x' * 80}")
        page.replies(2)
        boxes = [one.rect for one in page.all(".turn .column")]
        assert boxes[0]["x"] == boxes[1]["x"]
        assert boxes[0]["y"] < boxes[1]["y"]
        assert page.run(wide) == 320
        page.open("#/experts")
        page.wait(".card")
        for summary in page.all(".card[aria-label=math] summary"):
            summary.click()
        page.wait(".card tbody tr")
        assert page.run(wide) == 320
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
