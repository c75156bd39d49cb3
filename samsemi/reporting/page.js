"use strict";
document.querySelectorAll(".viewer").forEach((viewer) => {
  const cases = [...viewer.querySelectorAll(".case")];
  const select = viewer.querySelector("select");
  const most = 16;
  let current = 0, zoom = 1, x = 0.5, y = 0.5;

  const show = (number) => {
    cases[current].classList.remove("shown");
    current = (number + cases.length) % cases.length;
    cases[current].classList.add("shown");
    select.value = String(current);
    look(1, 0.5, 0.5);
  };
  const look = (newZoom, newX, newY) => {
    zoom = Math.min(most, Math.max(1, newZoom));
    const half = 0.5 / zoom;
    x = Math.min(1 - half, Math.max(half, newX));
    y = Math.min(1 - half, Math.max(half, newY));
    const width = Number(cases[current].dataset.width), height = Number(cases[current].dataset.height);
    const box = [(x - half) * width, (y - half) * height, width / zoom, height / zoom].join(" ");
    cases[current].querySelectorAll(".panel svg").forEach((svg) => svg.setAttribute("viewBox", box));
  };
  const toggle = (name, button) => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    viewer.classList.toggle(name === "lines" ? "no-lines" : "with-truth", name === "lines" ? !on : on);
  };
  const actions = {
    back: () => show(current - 1),
    next: () => show(current + 1),
    in: () => look(zoom * 1.5, x, y),
    out: () => look(zoom / 1.5, x, y),
    reset: () => look(1, 0.5, 0.5),
    lines: (button) => toggle("lines", button),
    truth: (button) => toggle("truth", button),
  };
  const keys = { ArrowLeft: "back", ArrowRight: "next", "+": "in", "=": "in", "-": "out", "0": "reset", l: "lines", t: "truth" };
  const act = (name) => actions[name](viewer.querySelector(`[data-do="${name}"]`));

  viewer.querySelectorAll("[data-do]").forEach((button) => button.addEventListener("click", () => act(button.dataset.do)));
  select.addEventListener("change", () => show(Number(select.value)));
  document.addEventListener("keydown", (event) => {
    const name = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (name && !event.ctrlKey && !event.metaKey && !event.altKey && event.target.tagName !== "SELECT") {
      event.preventDefault();
      act(name);
    }
  });
  viewer.querySelectorAll(".panel svg").forEach((svg) => {
    let from = null, moved = false;
    svg.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; moved = false; });
    svg.addEventListener("pointermove", (event) => {
      if (!from || !event.buttons) return;
      const dx = event.clientX - from[0], dy = event.clientY - from[1];
      if (!moved && Math.hypot(dx, dy) < 5) return;
      moved = true;
      from = [event.clientX, event.clientY];
      const place = svg.getBoundingClientRect();
      look(zoom, x - dx / place.width / zoom, y - dy / place.height / zoom);
    });
    svg.addEventListener("pointerup", () => {
      if (from && !moved) svg.closest(".panel").classList.toggle("large");
      from = null;
    });
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !svg.closest(".large")) return;
      event.preventDefault();
      look(event.deltaY < 0 ? zoom * 1.2 : zoom / 1.2, x, y);
    }, { passive: false });
  });
  const linked = () => {
    const found = cases.findIndex((one) => `#${one.id}` === location.hash);
    if (found >= 0) show(found);
    return found >= 0;
  };
  window.addEventListener("hashchange", linked);
  viewer.classList.add("scripted");
  if (linked()) viewer.scrollIntoView();
  else show(0);
});
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
