"use strict";
// Keeps the page of a running run current: it fetches the page again and puts what is new in place of what is shown, without
// moving what the reader has scrolled, opened, focused or typed; who is at the end of a log stays there. It waits ten times as long as an answer took, two seconds at least, so
// that looking costs little, and ends with the run.
(() => {
  const least = 2000, most = 60000, parts = ["#page > header", "#page > main"];
  const live = (root) => root.querySelector("#page[data-live]") !== null;
  if (!live(document)) return;

  // Whoever reads can stop what moves.
  const bar = document.createElement("aside"), state = document.createElement("span"), button = document.createElement("button");
  bar.id = "live";
  bar.setAttribute("aria-label", "updates of this page");
  state.setAttribute("role", "status");
  button.type = "button";
  bar.append(state, " ", button);
  Object.assign(bar.style, { position: "fixed", right: "1rem", bottom: "1rem", padding: ".25rem .75rem", borderRadius: ".5rem", background: "var(--bg)", border: "1px solid var(--line)", fontSize: ".8125rem" });
  document.body.append(bar);

  let paused = false, timer = 0, looking = false, shown = "";
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };
  const later = (ms) => { clearTimeout(timer); timer = setTimeout(look, ms); };
  const end = () => { say("ended"); button.remove(); };

  const swap = (now, next) => {
    if (!now || !next) return;
    const reachable = "a, button, summary, input, select, [tabindex]";
    const forms = [...now.querySelectorAll("form")];
    const open = [...now.querySelectorAll("details")].map((d) => d.open);
    const places = [...now.querySelectorAll(".scroll")].map((s) => ({ left: s.scrollLeft, top: s.scrollTop, end: s.scrollTop > 0 && s.scrollTop + s.clientHeight >= s.scrollHeight - 2 }));
    const focused = [...now.querySelectorAll(reachable)].indexOf(document.activeElement);
    now.replaceChildren(...next.childNodes);
    now.querySelectorAll("form").forEach((f, i) => { if (i < forms.length) f.replaceWith(forms[i]); });
    now.querySelectorAll("details").forEach((d, i) => { if (i < open.length) d.open = open[i]; });
    now.querySelectorAll(".scroll").forEach((s, i) => {
      if (i >= places.length) return;
      s.scrollLeft = places[i].left;
      s.scrollTop = places[i].end ? s.scrollHeight : places[i].top;
    });
    if (focused >= 0) now.querySelectorAll(reachable)[focused]?.focus({ preventScroll: true });
  };

  async function look() {
    if (paused || looking) return;
    if (document.hidden) return later(least);
    const began = performance.now();
    looking = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "error" });
      const text = await answer.text();
      if (!answer.ok) throw new Error(String(answer.status));
      if (paused) return;
      const next = new DOMParser().parseFromString(text, "text/html");
      if (text !== shown) {
        shown = text;
        const page = document.documentElement;
        const follows = document.querySelector(".log.tall") !== null && scrollY > 0 && scrollY + innerHeight >= page.scrollHeight - 2;
        for (const part of parts) swap(document.querySelector(part), next.querySelector(part));
        if (follows) scrollTo(scrollX, page.scrollHeight);
        document.title = next.title;
      }
      if (!live(next)) return end();
      say("live");
      later(Math.min(most, Math.max(least, 10 * (performance.now() - began))));
    } catch {
      say("no answer, trying again");
      later(2 * least);
    } finally {
      looking = false;
    }
  }

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    say(paused ? "paused" : "live");
    if (!paused) look();
  });
  button.textContent = "Pause";
  say("live");
  later(least);
})();
