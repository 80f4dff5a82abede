// Small comforts; every page works without them.
(function () {
  "use strict";
  var root = document.documentElement;
  var kept = null;
  try { kept = localStorage.getItem("theme"); } catch (e) { /* no storage: follow the system */ }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  root.classList.add("scripted");

  function say(text) {
    var box = document.getElementById("said");
    if (!box) return;
    box.textContent = text;
    box.classList.add("shown");
    clearTimeout(say.timer);
    say.timer = setTimeout(function () { box.classList.remove("shown"); }, 6000);
  }

  function copy(node) {
    var done = function () { say("Copied."); };
    var select = function () {  // no clipboard here (plain HTTP): the text is selected, for Ctrl+C
      getSelection().selectAllChildren(node);
      say("The text is selected: copy it with Ctrl+C.");
    };
    if (navigator.clipboard) navigator.clipboard.writeText(node.textContent).then(done, select);
    else select();
  }

  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll("[data-theme-switch]").forEach(function (button) {
      button.hidden = false;
      button.addEventListener("click", function () {
        var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
        root.dataset.theme = dark ? "light" : "dark";
        try { localStorage.setItem("theme", root.dataset.theme); } catch (e) { /* for this page only */ }
      });
    });
    document.querySelectorAll("[data-copy]").forEach(function (button) {
      button.hidden = false;
      button.addEventListener("click", function () { copy(document.getElementById(button.dataset.copy)); });
    });
    if (matchMedia("(min-width: 60rem)").matches) {
      document.querySelectorAll("details[data-open-wide]").forEach(function (d) { d.open = true; });
    }
  });

  document.addEventListener("keydown", function (event) {
    var typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      var field = document.querySelector("[data-search-field]") || document.getElementById("find");
      if (field) { event.preventDefault(); field.focus(); field.select(); }
    }
    if (event.key === "Escape") {
      document.querySelectorAll("details.menu[open]").forEach(function (d) {
        d.open = false;
        d.querySelector("summary").focus();
      });
    }
  });
  document.addEventListener("click", function (event) {
    document.querySelectorAll("details.menu[open]").forEach(function (d) {
      if (!d.contains(event.target)) d.open = false;
    });
  });

  document.addEventListener("htmx:responseError", function (event) {
    var xhr = event.detail.xhr;
    var plain = (xhr.getResponseHeader("content-type") || "").indexOf("text/plain") === 0;
    say(plain && xhr.responseText ? xhr.responseText : "That did not work (" + xhr.status + ").");
  });
  document.addEventListener("htmx:sendError", function () { say("The server did not answer."); });
})();
