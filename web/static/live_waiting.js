"use strict";
// Stands where a live view will be: waits until the charts' process answers, then loads the view.

parent.postMessage({ type: "live-height", height: 300 }, location.origin);

async function wait() {
  for (let pause = 1000; ; pause = Math.min(pause * 1.5, 10_000)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      const answer = await fetch("/live/livez", { cache: "no-store" });
      if (answer.ok) return location.reload();
      if (answer.status === 401) return parent.location.reload();
    } catch {
      // the web process is away as well; go on waiting
    }
  }
}

wait();
