// Live progress of a run. Without it the page reloads itself every three seconds.
(function () {
  "use strict";
  var box = document.getElementById("run");
  if (!box || !window.EventSource) return;
  var names = { queued: "Waiting for a free worker", running: "Running" };
  var find = function (name) { return box.querySelector("[data-" + name + "]"); };
  var bar = box.querySelector("progress");
  var source = new EventSource(box.dataset.events);
  var first = true; // the stream begins with the run's first event: the steps that the page came with are told again

  source.addEventListener("run", function (message) {
    var event = JSON.parse(message.data);
    if (event.kind === "progress") {
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
      find("state").textContent = names[status];
      find("state").className = "state " + status;
    } else {
      source.close();
      location.reload();
    }
  });
})();
