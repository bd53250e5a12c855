(async () => {
  // The part of a kernel's model that the explorers use, over values that stand in the page.
  const root = document.currentScript.parentElement;
  const given = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const values = { ...given.state };
  for (const [name, text] of Object.entries(given.buffers)) {
    values[name] = new DataView(bytes(text).buffer);
  }
  const heard = new Map();
  const tell = (event, ...what) => {
    for (const answer of [...(heard.get(event) ?? [])]) answer(...what);
  };
  const model = {
    get: (name) => values[name],
    set(name, value) {
      const changes = typeof name === "string" ? { [name]: value } : name;
      const changed = Object.keys(changes).filter((key) => values[key] !== changes[key]);
      Object.assign(values, changes);
      for (const key of changed) tell(`change:${key}`, model, values[key]);
      if (changed.length) tell("change", model);
    },
    on(events, answer) {
      for (const event of events.split(" ")) {
        heard.set(event, (heard.get(event) ?? new Set()).add(answer));
      }
    },
    off(events, answer) {
      for (const event of events ? events.split(" ") : [...heard.keys()]) {
        if (answer) heard.get(event)?.delete(answer);
        else heard.delete(event);
      }
    },
    save_changes() {}, // nobody to send them to
    send() {},
  };
  if (!document.getElementById("noisyseg-live-css")) {
    const style = document.createElement("style");
    style.id = "noisyseg-live-css";
    style.textContent = given.css;
    document.head.append(style);
  }
  const el = document.createElement("div");
  root.append(el);
  const address = URL.createObjectURL(new Blob([given.module], { type: "text/javascript" }));
  try {
    const { default: explorer } = await import(address);
    await explorer.render({ model, el });
    root.dataset.ready = "yes";
  } catch (error) {
    console.error(error);
    // Where scripts run, what stands in noscript is text.
    el.innerHTML = root.querySelector("noscript").textContent;
    root.dataset.ready = "failed";
  } finally {
    URL.revokeObjectURL(address);
  }
})();
