// SPDX-License-Identifier: GPL-2.0-only
// What the page can do beyond reading: switches for the tables, cells that open where they stand.
// Everything is in the page without this; the state is in the address, so that it can be sent.
"use strict";

(() => {
  const form = document.getElementById("switches");
  const dialog = document.getElementById("blocks");
  const body = dialog.querySelector(".body");
  const cellKey = /^cell-[0-9]+-[0-9]+-[0-9]+$/;
  const initial = {};
  for (const select of form.querySelectorAll("select")) {
    initial[select.name] = select.dataset.initial || "all";
  }

  // "#regime=idle&cell=cell-1-1-2"; any other fragment is a place in the page.
  function readAddress() {
    const text = decodeURIComponent(location.hash.slice(1));
    if (cellKey.test(text)) {
      return { ...initial, cell: text };
    }
    const state = { ...initial };
    if (text.includes("=")) {
      for (const [name, value] of new URLSearchParams(text)) {
        const select = form.elements[name];
        const known = select && [...select.options].some((option) => option.value === value);
        if (known || (name === "cell" && cellKey.test(value))) {
          state[name] = value;
        }
      }
    }
    return state;
  }

  function address(state) {
    const words = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value && value !== initial[name]) {
        words.set(name, value);
      }
    }
    const text = words.toString();
    return location.href.split("#")[0] + (text ? "#" + text : "");
  }

  function shows(element, state) {
    return ["metric", "regime", "arm"].every((name) => {
      const own = element.dataset[name];
      const wanted = state[name] || "all";
      return own === undefined || wanted === "all" || own.split(" ").includes(wanted);
    });
  }

  function showTables(state) {
    for (const element of document.querySelectorAll(
      "#results [data-metric], #results [data-regime], #results [data-arm]"
    )) {
      element.hidden = !shows(element, state);
      if (element.localName === "details" && "metric" in element.dataset) {
        element.open = state.metric !== "all" && !element.hidden;
      }
    }
    for (const [name, value] of Object.entries(initial)) {
      form.elements[name].value = state[name] || value;
    }
    const tables = [...document.querySelectorAll("#results table.deltas")];
    const shown = tables.filter((table) => table.checkVisibility());
    form.querySelector("output").value = `${shown.length} of ${tables.length} tables shown`;
  }

  let lent = null; // the cell whose blocks the dialog shows, and where they belong

  function giveBack() {
    if (lent) {
      lent.home.append(lent.blocks);
      lent = null;
    }
  }

  function showCell(key) {
    if (lent && lent.blocks.id === key) {
      return;
    }
    giveBack();
    const blocks = key && document.getElementById(key);
    if (!blocks) {
      if (dialog.open) {
        dialog.close();
      }
      return;
    }
    lent = { blocks, home: blocks.parentElement };
    dialog.querySelector("h2").textContent = blocks.dataset.title;
    body.replaceChildren(blocks);
    if (!dialog.open) {
      dialog.showModal();
    }
  }

  let current = {};

  function show() {
    current = readAddress();
    showTables(current);
    showCell(current.cell);
    const place = document.getElementById(location.hash.slice(1));
    if (place && !current.cell) {
      place.scrollIntoView(); // it may have been hidden until now
    }
  }

  function change(values, push) {
    const target = address({ ...current, ...values });
    history[push ? "pushState" : "replaceState"](null, "", target);
    current = readAddress();
    showTables(current);
    showCell(current.cell);
  }

  form.addEventListener("change", (event) => {
    change({ [event.target.name]: event.target.value }, false);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", () => {
    change(Object.fromEntries(Object.keys(initial).map((name) => [name, "all"])), false);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.open");
    const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    if (link && plain) {
      event.preventDefault();
      change({ cell: link.hash.slice(1) }, true);
    } else if (event.target === dialog || event.target.closest("#blocks .close")) {
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => {
    giveBack();
    if (current.cell) {
      change({ cell: "" }, false);
    }
  });
  window.addEventListener("hashchange", show);
  window.addEventListener("popstate", show);

  form.hidden = false;
  show();
})();
