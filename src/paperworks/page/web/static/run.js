// Live progress of a run. Without it the page reloads itself every three seconds.
(function () {
  "use strict";
  var box = document.getElementById("run");
  if (!box || !window.EventSource) return;
  var names = { queued: "Waiting for a free worker", running: "Running", cancelling: "Stopping at its next checkpoint" };
  var find = function (name) { return box.querySelector("[data-" + name + "]"); };
  var bar = box.querySelector("progress");
  var source = new EventSource(box.dataset.events);
  var first = true; // the stream begins with the run's first event: the steps that the page came with are told again

  var phase = null; // where the shown progress began: what is left is told from its pace since then

  // Only the pace of this part of the run is known: a run of several parts tells the time of each.
  function left(event) {
    if (!phase || phase.description !== event.description || event.done < phase.done) {
      phase = { description: event.description, done: event.done, time: Date.parse(event.time) };
    }
    var done = event.done - phase.done, seconds = (Date.parse(event.time) - phase.time) / 1000;
    if (!event.total || done < 1 || seconds < 2 || event.done >= event.total) return "";
    var rest = (event.total - event.done) * seconds / done;
    return "about " + (rest < 90 ? Math.max(1, Math.round(rest)) + " seconds" : Math.round(rest / 60) + " minutes") + " left of this part";
  }

  source.addEventListener("run", function (message) {
    var event = JSON.parse(message.data);
    if (event.kind === "progress") {
      find("left").textContent = left(event);
      find("doing").textContent = event.description;
      if (event.total) {
        bar.max = event.total;
        bar.value = event.done;
        find("count").textContent = event.done + " of " + event.total;
      } else {
        bar.removeAttribute("value");
        find("count").textContent = event.done ? String(event.done) : "";
      }
    } else if (event.kind === "step") {
      var steps = find("steps");
      steps.hidden = find("steps-title").hidden = false;
      if (first) steps.textContent = "";
      first = false;
      var line = document.createElement("li");
      line.textContent = event.text;
      if (!steps.lastElementChild || steps.lastElementChild.textContent !== event.text) steps.appendChild(line);
      while (steps.children.length > 8) steps.removeChild(steps.firstElementChild);
    }
  });
  source.addEventListener("status", function (message) {
    var status = JSON.parse(message.data).status;
    if (names[status]) {
      if (status === "running" && !phase) find("doing").textContent = find("doing").dataset.starting;
      find("state").textContent = names[status];
      find("state").className = "state " + (status === "cancelling" ? "running" : status);
      if (find("cancel")) find("cancel").hidden = status === "cancelling";
    } else {
      source.close();
      location.reload();
    }
  });
})();
