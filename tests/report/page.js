"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("report-data").textContent);
  const matrix = byId("report-matrix");
  const rows = [...matrix.querySelectorAll("tr.claim")];
  const bodies = [...matrix.tBodies];
  const chips = [...document.querySelectorAll(".chip")];
  const sorters = [...matrix.querySelectorAll(".sorter")];
  const search = byId("report-search"), inColumn = byId("report-column");
  const inSection = byId("report-section"), order = byId("report-order");
  const home = new Map(rows.map((row) => [row, row.parentElement]));
  const sorted = document.createElement("tbody");
  document.documentElement.classList.add("scripted");

  // Every text goes through here, as text: what a log holds is never read as markup.
  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  // ---- opened cells

  const cellsOf = (row) => [...row.cells].slice(1);
  const buttonAt = (row, column) => cellsOf(row)[column]?.querySelector("button");
  const detailOf = (row) => (row.nextElementSibling?.classList.contains("detail") ? row.nextElementSibling : null);
  const opened = [];

  function runView(run) {
    const name = run.parameters ? `${run.test}[${run.parameters}]` : run.test;
    const view = element("article", "run", element("p", "",
      element("span", `state ${run.state}`, run.state), " ", element("code", "", name), " ",
      element("span", "took", run.level === "conformance" ? run.seconds : `${run.level}, ${run.seconds}`)));
    if (run.reason) view.append(element("p", "reason", run.reason));
    if (run.log) {
      const log = element("pre", "", run.log);
      log.tabIndex = 0;
      log.setAttribute("aria-label", `log of ${name}`);
      const fold = element("details", "", element("summary", "", "log"), log);
      fold.open = run.state === "fail";
      view.append(fold);
    }
    return view;
  }

  function open(row, column) {
    close(row);
    const button = buttonAt(row, column);
    const title = element("h3", "", `${row.querySelector(".id").textContent} · ${data.columns[column]}`);
    title.id = `${row.id}-title`;
    const shut = element("button", "close", "close");
    shut.type = "button";
    shut.addEventListener("click", () => closeAndReturn(row));
    const view = element("section", "opened", element("header", "", title, shut),
      ...data.cells[row.dataset.n][column].map((index) => runView(data.runs[index])));
    view.setAttribute("aria-labelledby", title.id);
    view.id = `${row.id}-detail`;
    const cell = element("td", "", view);
    cell.colSpan = row.cells.length;
    row.after(element("tr", "detail", cell));
    button.setAttribute("aria-expanded", "true");
    button.setAttribute("aria-controls", view.id);
    opened.push(row);
    address(`${row.id}/${data.addresses[column]}`);
  }

  function close(row) {
    detailOf(row)?.remove();
    const button = row.querySelector('button[aria-expanded="true"]');
    button?.setAttribute("aria-expanded", "false");
    button?.removeAttribute("aria-controls");
    if (opened.includes(row)) opened.splice(opened.indexOf(row), 1);
    return button;
  }

  function closeAndReturn(row) {
    const button = close(row);
    address(row.id);
    button?.focus();
  }

  matrix.addEventListener("click", (event) => {
    const button = event.target.closest("button.cell");
    if (!button) return;
    const row = button.closest("tr");
    if (button.getAttribute("aria-expanded") === "true") closeAndReturn(row);
    else open(row, cellsOf(row).indexOf(button.parentElement));
  });

  // ---- which claims are shown

  const wanted = new Set();
  const texts = new Map();

  function textOf(row) {
    if (!texts.has(row)) {
      const tests = data.cells[row.dataset.n].flat().map((index) => `${data.runs[index].test} ${data.runs[index].parameters}`);
      const section = home.get(row).querySelector(".section th").textContent;
      texts.set(row, [row.cells[0].textContent, section, ...new Set(tests)].join("\n").toLowerCase());
    }
    return texts.get(row);
  }

  function statesOf(row) {
    const cells = cellsOf(row);
    return (inColumn.value === "" ? cells : [cells[inColumn.value]]).map((cell) => cell.dataset.state);
  }

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = (inSection.value === "" || home.get(row).dataset.section === inSection.value)
        && (wanted.size === 0 || statesOf(row).some((state) => wanted.has(state)))
        && words.every((word) => textOf(row).includes(word));
      row.hidden = !fits;
      if (!fits) close(row);
      shown += fits;
    }
    for (const body of bodies) {
      body.querySelector(".section").hidden = order.value !== "" || !rows.some((row) => home.get(row) === body && !row.hidden);
    }
    for (const chip of chips) {
      const state = chip.dataset.state;
      chip.setAttribute("aria-pressed", String(state === "" ? wanted.size === 0 : wanted.has(state)));
      if (state !== "") chip.querySelector(".n").textContent = rows.filter((row) => statesOf(row).includes(state)).length;
    }
    byId("report-empty").hidden = shown !== 0;
    byId("report-shown").textContent = shown === rows.length ? `All ${shown} claims` : `${shown} of ${rows.length} claims`;
  }

  function reset() {
    search.value = inSection.value = inColumn.value = "";
    wanted.clear();
    show();
  }

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      const state = chip.dataset.state;
      if (state === "") wanted.clear();
      else if (!wanted.delete(state)) wanted.add(state);
      show();
    });
  }
  search.addEventListener("input", show);
  inColumn.addEventListener("change", show);
  inSection.addEventListener("change", show);
  byId("report-reset").addEventListener("click", () => { reset(); search.focus(); });
  byId("report-controls").addEventListener("submit", (event) => event.preventDefault());

  // ---- order

  const rank = {
    worst: (state) => ["fail", "pending", "differs", "skip", "no test", "not run", "n/a", "pass"].indexOf(state),
    best: (state) => ["pass", "differs", "skip", "pending", "fail", "not run", "no test", "n/a"].indexOf(state),
  };

  function sort() {
    const [column, way] = order.value.split(" ");
    const ranked = [...rows];
    if (column === "name") {
      const name = (row) => row.querySelector(".id").textContent;
      ranked.sort((one, other) => name(one).localeCompare(name(other), "en"));
    } else if (column !== "") {
      const place = (row) => rank[way](cellsOf(row)[column].dataset.state);
      ranked.sort((one, other) => place(one) - place(other));
    }
    const details = new Map(rows.map((row) => [row, detailOf(row)]));
    for (const row of ranked) {
      (column === "" ? home.get(row) : sorted).append(row, ...[details.get(row)].filter(Boolean));
    }
    if (column === "") sorted.remove();
    else matrix.append(sorted);
    for (const sorter of sorters) {
      const here = sorter.dataset.order === column;
      sorter.parentElement.setAttribute("aria-sort", !here ? "none" : way === "worst" ? "descending" : "ascending");
    }
    show();
  }

  for (const sorter of sorters) {
    sorter.addEventListener("click", () => {
      const column = sorter.dataset.order;
      const turns = column === "name" ? ["name", ""] : [`${column} worst`, `${column} best`, ""];
      order.value = turns[(turns.indexOf(order.value) + 1) % turns.length];
      sort();
    });
  }
  order.addEventListener("change", sort);

  // ---- addresses: #claim, and #claim/column for an opened cell

  function address(text) {
    mark(byId(text.split("/")[0]));
    try { history.replaceState(null, "", `#${text}`); } catch { /* A page without an address of its own has none to change. */ }
  }

  function mark(row) {
    for (const other of matrix.querySelectorAll(".target")) other.classList.remove("target");
    if (row?.classList.contains("claim")) row.classList.add("target");
  }

  function follow() {
    const [id, where] = decodeURIComponent(location.hash.slice(1)).split("/");
    const row = rows.find((each) => each.id === id);
    if (!row) return;
    if (row.hidden) reset();
    const column = data.addresses.indexOf(where);
    if (buttonAt(row, column)) open(row, column);
    mark(row);
    row.scrollIntoView({ block: "start" });
  }
  addEventListener("hashchange", follow);

  // ---- keys

  function step(button, key) {
    const row = button.closest("tr"), column = cellsOf(row).indexOf(button.parentElement);
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const buttons = cellsOf(row).map((cell) => cell.querySelector("button")).filter(Boolean);
      return buttons[buttons.indexOf(button) + (key === "ArrowRight" ? 1 : -1)];
    }
    const visible = [...matrix.querySelectorAll("tr.claim")].filter((each) => !each.hidden && buttonAt(each, column));
    const next = visible[visible.indexOf(row) + (key === "ArrowDown" ? 1 : -1)];
    return next && buttonAt(next, column);
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = document.activeElement;
    const typing = at?.matches("input, select, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape") {
      const inside = at?.closest(".detail")?.previousElementSibling ?? at?.closest("tr.claim");
      const row = opened.includes(inside) ? inside : opened.at(-1);
      if (at === search && search.value) { search.value = ""; show(); }
      else if (row) closeAndReturn(row);
    } else if (/^Arrow/.test(event.key) && at?.matches("button.cell")) {
      const next = step(at, event.key);
      if (next) { event.preventDefault(); next.focus(); }
    }
  });

  sort();
  follow();
})();
