// What pages do by themselves: they follow events, and show a job's lines as they come. All of it works without, after a
// reload. Whatever comes is put in as text.
(() => {
  "use strict";
  const KINDS = { started: "has started", finished: "has succeeded", failed: "has failed", skipped: "was skipped",
    missed: "was missed", queued: "waits in the queue", changed: "has been changed" };
  const MOST_LINES = 2000;
  // Between news and a look (ms), and between two looks: where much happens, a page need not be made for each.
  const WAIT = 400;
  const LEAST = 2000;

  const say = (text) => {
    const news = document.getElementById("news");
    if (news) news.textContent = text;
  };

  // --- events: a page takes its live part anew when something happens

  let events = null;
  let waiting = 0;
  let looked = 0;

  const refresh = () => {
    if (waiting) return;
    waiting = setTimeout(() => {
      waiting = 0;
      looked = Date.now();
      htmx.trigger(document.body, "news");
    }, Math.max(WAIT, looked + LEAST - Date.now()));
  };

  const follow = () => {
    const path = document.body.dataset.events;
    if (!path || events || document.hidden) return;
    events = new EventSource(path);
    for (const [kind, words] of Object.entries(KINDS)) {
      events.addEventListener(kind, (event) => {
        const told = JSON.parse(event.data);
        if (told.job) say(`${told.job} ${words}`);
        refresh();
      });
    }
    events.addEventListener("reset", refresh);
    events.onerror = () => {
      if (events && events.readyState === EventSource.CLOSED) say("No live news any more: load the page again.");
    };
  };

  const leave = () => {
    if (events) events.close();
    events = null;
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      leave();
    } else {
      follow();
      refresh();
    }
  });
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);

  // What has been done is told once, not after each reload.
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    history.replaceState(history.state, "", here);
  }

  // --- logs: a job's lines, while their box is open

  const logs = new Map();

  const add = (box, told) => {
    const line = document.createElement("div");
    if (!(told.identifier || "").startsWith("lsh-")) line.className = "soft";
    const at = document.createElement("time");
    at.dateTime = told.at || "";
    at.textContent = told.at ? new Date(told.at).toLocaleTimeString([], { hour12: false }) : "";
    line.append(at, " ", told.message === null ? "" : String(told.message));
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(line);
    while (box.childElementCount > MOST_LINES) box.firstElementChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  };

  const toggle = (details) => {
    const box = details.querySelector("[role=log]");
    if (details.open && "once" in details.dataset) {
      fetch(details.dataset.log).then((answer) => (answer.ok ? answer.json() : [])).then((lines) => {
        box.replaceChildren();
        lines.forEach((line) => add(box, line));
      });
    } else if (details.open && !logs.has(details)) {
      box.replaceChildren();
      const source = new EventSource(details.dataset.log);
      source.addEventListener("line", (event) => add(box, JSON.parse(event.data)));
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) say("The log cannot be followed now: too many do, or you have to log in.");
      };
      logs.set(details, source);
    } else if (!details.open && logs.has(details)) {
      logs.get(details).close();
      logs.delete(details);
    }
  };

  document.addEventListener("toggle", (event) => {
    if (event.target.matches && event.target.matches("details[data-log]")) toggle(event.target);
  }, true);
  window.addEventListener("pagehide", () => {
    for (const source of logs.values()) source.close();
    logs.clear();
  });

  document.querySelectorAll("details[data-log]").forEach(toggle);
})();
