"use strict";
// Brings the page up to date every ten seconds while somebody looks at it. Without scripts the page reloads itself.
const lost = document.getElementById("lost");
let under_way = false;

async function look() {
  if (document.hidden || under_way) return;
  under_way = true;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    if (lost.hidden) lost.querySelector("span").textContent = new Date().toLocaleTimeString();
    lost.hidden = false;
  } finally {
    under_way = false;
  }
}

function show(fresh) {
  const links = "main a, main button";
  const focused = [...document.querySelectorAll(links)].indexOf(document.activeElement);
  document.getElementById("page").replaceWith(fresh.getElementById("page"));
  document.title = fresh.title;
  lost.hidden = true;
  if (focused >= 0) document.querySelectorAll(links)[focused]?.focus({ preventScroll: true });
}

setInterval(look, 10000);
document.addEventListener("visibilitychange", look);
