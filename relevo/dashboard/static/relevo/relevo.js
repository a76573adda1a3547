/* The pages' script: it fetches the page again every few seconds and replaces what has changed, shows times in the viewer's
   time zone, asks before a deletion, and sends actions without leaving the page. Without it only the fetching is missing.
   It never makes HTML out of text. */
(function () {
    "use strict";

    var PAUSED = "relevo-paused", LIVE_HEADER = {"X-Relevo-Live": "1"};
    var busy = false, main, refresh;

    function all(selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); }
    function readStored(key) { try { return window.localStorage.getItem(key); } catch (error) { return null; } }
    function writeStored(key, value) { try { window.localStorage.setItem(key, value); } catch (error) { /* private mode */ } }

    /* --- times ---------------------------------------------------------------------------------------------------- */
    var exact = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "long"});
    var day = new Intl.DateTimeFormat(undefined, {weekday: "short", day: "numeric", month: "short"});
    var clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit"});
    var full = new Intl.DateTimeFormat(undefined, {dateStyle: "short", timeStyle: "medium"});

    /* In the format of the pages' durations: 12 s, 5 min, 1 h 11 min, 3 d 4 h. */
    function relativeTime(date) {
        var seconds = Math.round((date - Date.now()) / 1000), size = Math.abs(seconds), text;
        if (size < 5) { return "now"; }
        if (size >= 86400 * 14) { return full.format(date); }
        if (size < 60) { text = size + " s"; }
        else if (size < 3600) { text = Math.floor(size / 60) + " min"; }
        else if (size < 86400) { text = twoUnits(size, 3600, "h", 60, "min"); }
        else { text = twoUnits(size, 86400, "d", 3600, "h"); }
        return seconds < 0 ? text + " ago" : "in " + text;
    }

    function twoUnits(size, large, called, small, less) {
        var rest = Math.floor(size % large / small);
        return Math.floor(size / large) + " " + called + (rest ? " " + rest + " " + less : "");
    }

    function localize(root) {
        all("time[datetime]", root).forEach(function (element) {
            var date = new Date(element.getAttribute("datetime"));
            if (isNaN(date)) { return; }
            if (element.dataset.tick) {
                element.textContent = Number(element.dataset.tick) >= 3600 ? day.format(date) : clock.format(date);
            } else {
                element.textContent = element.hasAttribute("data-relative") ? relativeTime(date) : full.format(date);
                element.title = exact.format(date);
            }
        });
    }

    /* --- replacing what has changed ------------------------------------------------------------------------------- */
    function sameElement(one, other) {
        return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
    }

    function updateAttributes(from, to) {
        var open = from.nodeName === "DETAILS" || from.nodeName === "DIALOG";
        Array.prototype.slice.call(from.attributes).forEach(function (each) {
            if (!to.hasAttribute(each.name) && !(open && each.name === "open")) { from.removeAttribute(each.name); }
        });
        Array.prototype.slice.call(to.attributes).forEach(function (each) {
            if (from.getAttribute(each.name) !== each.value && !(open && each.name === "open")) {
                from.setAttribute(each.name, each.value);
            }
        });
    }

    function countFollowing(node) {
        var count = 0;
        while (node) { count += 1; node = node.nextElementSibling; }
        return count;
    }

    function morph(from, to, force) {
        if (from.nodeType !== 1) {
            if (from.data !== to.data) { from.data = to.data; }
            return;
        }
        if (from.hasAttribute("data-keep") && !force) { return; }
        if (from === document.activeElement && /^(INPUT|TEXTAREA|SELECT)$/.test(from.nodeName)) { return; }
        if (from.isEqualNode(to)) { return; }
        updateAttributes(from, to);
        var old = from.firstChild, next = to.firstChild, following, found;
        while (next) {
            following = next.nextSibling;
            if (old && !sameElement(old, next) && next.id) {
                found = Array.prototype.find.call(from.children, function (child) { return child.id === next.id; });
                if (found) { from.insertBefore(found, old); old = found; }
            }
            if (old && sameElement(old, next)) {
                morph(old, next, force);
                old = old.nextSibling;
            } else if (old && old.nodeType === 1 && next.nodeType === 1 && countFollowing(old) === countFollowing(next)) {
                following = next.nextSibling;  // another element in the same place: the elements after it stay
                found = old.nextSibling;
                from.replaceChild(document.importNode(next, true), old);
                old = found;
            } else {
                from.insertBefore(document.importNode(next, true), old);
            }
            next = following;
        }
        while (old) {
            following = old.nextSibling;
            old.remove();
            old = following;
        }
    }

    function parse(text) {
        var page = new DOMParser().parseFromString(text, "text/html");
        localize(page);
        return page;
    }

    /* --- fetching the page again ---------------------------------------------------------------------------------- */
    function showStatus(state, text) {
        var live = document.getElementById("rl-live");
        live.dataset.state = state;
        var place = live.querySelector("[data-live-text]");
        if (place.textContent !== text) { place.textContent = text; }
    }

    function isReading() {
        var ask = document.getElementById("rl-ask");
        if (document.querySelector("details[data-menu][open]") || (ask && ask.open)) { return true; }
        if (document.querySelector("[data-pick]:checked") || document.querySelector("[data-dirty]")) { return true; }
        if (String(window.getSelection()).length) { return true; }
        return Boolean(document.querySelector("[data-list]")) && window.scrollY > 240;
    }

    function fetchAgain() {
        if (document.hidden || busy || readStored(PAUSED) === "1") { return; }
        if (isReading()) { showStatus("held", "Held while you read"); return; }
        busy = true;
        fetch(window.location.href, {headers: LIVE_HEADER, credentials: "same-origin"}).then(function (answer) {
            if (answer.status === 401 || new URL(answer.url).pathname !== window.location.pathname) {
                window.location.reload();
                return null;
            }
            return answer.text().then(function (text) {
                var page = parse(text), next = page.getElementById("main-content");
                busy = false;
                if (answer.status === 503) { showStatus("bad", "Out of reach, trying again"); return; }
                if (!next || isReading()) { return; }
                morph(main, next, false);
                localize(main);
                showStatus("good", "Live");
            });
        }).catch(function () { showStatus("bad", "The dashboard doesn't answer"); }).then(function () { busy = false; });
    }

    /* A search without a hit continues by itself, until it finds something or updates are paused. */
    function searchFurther() {
        var link = main.querySelector("[data-onward]"), there = link && link.href;
        if (!there || readStored(PAUSED) === "1") { return; }
        if (busy || document.hidden || isReading()) { window.setTimeout(searchFurther, 500); return; }
        busy = true;
        fetch(there, {headers: LIVE_HEADER, credentials: "same-origin"}).then(function (answer) {
            return answer.ok ? answer.text() : Promise.reject(new Error(answer.status));
        }).then(function (text) {
            window.history.replaceState(null, "", there);
            morph(main, parse(text).getElementById("main-content"), false);
            localize(main);
            window.setTimeout(searchFurther, 20);
        }).catch(function () { showStatus("bad", "Out of reach, trying again"); }).then(function () { busy = false; });
    }

    function showPaused() {
        var paused = readStored(PAUSED) === "1", button = document.querySelector("[data-live-toggle]");
        button.textContent = paused ? "Resume updates" : "Pause updates";
        button.setAttribute("aria-pressed", paused ? "true" : "false");
        showStatus(paused ? "held" : "good", paused ? "Not updating" : "Live");
    }

    /* --- actions -------------------------------------------------------------------------------------------------- */
    function confirmAction(question, label) {
        var ask = document.getElementById("rl-ask");
        document.getElementById("rl-ask-text").textContent = question;
        ask.querySelector("[data-yes]").textContent = label || "Yes";
        ask.returnValue = "no";
        ask.showModal();
        return new Promise(function (resolve) {
            ask.addEventListener("close", function () { resolve(ask.returnValue === "yes"); }, {once: true});
        });
    }

    function send(form, button) {
        var body = new URLSearchParams(new FormData(form));
        if (button && button.name) { body.append(button.name, button.value); }
        var action = (button && button.getAttribute("formaction")) || form.getAttribute("action");
        busy = true;
        all("button", form).forEach(function (each) { each.disabled = true; });
        fetch(action, {method: "POST", body: body, credentials: "same-origin"}).then(function (answer) {
            return answer.text().then(function (text) {
                var page = parse(text), next = page.getElementById("main-content");
                if (!next) { window.location.reload(); return; }
                all("details[data-menu][open]").forEach(function (menu) { menu.open = false; });
                all("[data-dirty]").forEach(function (each) { each.removeAttribute("data-dirty"); });
                if (answer.ok) {
                    var there = new URL(answer.url);
                    if (there.href !== window.location.href) { window.history.pushState(null, "", there.href); }
                    document.title = page.title;
                    all("[data-pick]").forEach(function (each) { each.checked = false; });
                    morph(main, next, false);
                    morph(document.getElementById("rl-notice"), page.getElementById("rl-notice"), true);
                } else {
                    var notice = document.createElement("p"), place = document.getElementById("rl-notice");
                    notice.className = "rl-notice failed";
                    notice.textContent = next.querySelector("[data-trouble] p").textContent;
                    place.replaceChildren(notice);
                }
                showPicked();
            });
        }).catch(function () { showStatus("bad", "The dashboard doesn't answer"); }).then(function () {
            busy = false;
            all("button", form).forEach(function (each) { each.disabled = false; });
        });
    }

    function showPicked() {
        var count = all("[data-pick]:checked").length;
        all("[data-picked]").forEach(function (element) { element.textContent = String(count); });
        all("[data-bulk]").forEach(function (element) { element.hidden = !count; });
        all("[data-pick-all]").forEach(function (box) {
            box.checked = count > 0 && count === all("[data-pick]").length;
            box.indeterminate = count > 0 && !box.checked;
        });
    }

    document.addEventListener("submit", function (event) {
        var form = event.target, button = event.submitter;
        if (form.method !== "post" || !main) { return; }
        event.preventDefault();
        var question = (button && button.dataset.ask) || form.dataset.ask;
        if (!question) { send(form, button); return; }
        question = question.replace("{picked}", String(all("[data-pick]:checked").length));
        confirmAction(question, button && button.textContent.trim()).then(function (yes) { if (yes) { send(form, button); } });
    });

    document.addEventListener("change", function (event) {
        if (event.target.matches("[data-pick-all]")) {
            all("[data-pick]").forEach(function (each) { each.checked = event.target.checked; });
        }
        if (event.target.matches("[data-pick], [data-pick-all]")) { showPicked(); }
    });
    document.addEventListener("input", function (event) {
        if (event.target.matches("textarea")) { event.target.setAttribute("data-dirty", ""); }
    });
    document.addEventListener("click", function (event) {
        all("details[data-menu][open]").forEach(function (menu) {
            if (!menu.contains(event.target)) { menu.open = false; }
        });
        if (event.target.matches("[data-live-toggle]")) {
            writeStored(PAUSED, readStored(PAUSED) === "1" ? "0" : "1");
            showPaused();
            searchFurther();
        }
        if (event.target.matches("[data-copy]") && navigator.clipboard) {
            navigator.clipboard.writeText(event.target.dataset.copy);
            event.target.textContent = "Copied";
        }
    });
    document.addEventListener("keydown", function (event) {
        if (event.key === "Escape") {
            all("details[data-menu][open]").forEach(function (menu) {
                menu.open = false;
                menu.querySelector("summary").focus();
            });
        }
        if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.nodeName)) {
            var search = document.querySelector("input[type=search]");
            if (search) { event.preventDefault(); search.focus(); search.select(); }
        }
    });
    document.addEventListener("pointerover", function (event) {
        if (!event.target.matches || !event.target.matches(".rl-hover")) { return; }
        var date = new Date(1000 * Number(event.target.dataset.at));
        event.target.closest("figure").querySelector("output").textContent =
            full.format(date) + ": " + event.target.dataset.tip;
    });
    document.addEventListener("pointerout", function (event) {
        var figure = event.target.closest && event.target.closest(".rl-chart");
        if (figure && !figure.contains(event.relatedTarget)) { figure.querySelector("output").textContent = ""; }
    });
    window.addEventListener("popstate", function () { if (main) { window.location.reload(); } });

    var here = document.querySelector(".rl-tabs [aria-current]");
    if (here) { here = here.closest(".rl-menu") || here; here.parentNode.scrollLeft = here.offsetLeft - 60; }

    /* Flower's pages have no heading, and the keyboard can't scroll their tables. */
    if (document.body.classList.contains("app-body")) {
        if (!document.querySelector("h1")) {
            var heading = document.createElement("h1");
            heading.className = "visually-hidden";
            heading.textContent = (document.querySelector(".rl-nav [aria-current]") || {}).textContent || document.title;
            document.getElementById("main-content").prepend(heading);
        }
        window.addEventListener("load", function () {
            all(".dataTables_scrollBody").forEach(function (each) { each.tabIndex = 0; });
        });
    }

    refresh = Number(document.body.dataset.refresh);
    if (refresh) {
        main = document.getElementById("main-content");
        localize(document);
        showPaused();
        showPicked();
        searchFurther();
        window.setInterval(fetchAgain, refresh);
        document.addEventListener("visibilitychange", fetchAgain);
    }
}());
