// Plays the moments 0 to `last`: by itself, with the buttons, the slider and the keyboard. `show` draws a moment and returns its words, `live` is
// where these words stand, Page Up and Page Down go `leap` moments. Begins at the end, and plays once when `scene` is first seen in full view,
// unless the reader wants less motion. Returns a function that pauses at a moment.
const part = id => document.getElementById(id);
function replay({ last, show, live, scene, leap }) {
  const slider = part("controls").querySelector("input");
  let now = last, timer = 0;
  function turn(to) {
    now = Math.max(0, Math.min(last, to));
    slider.value = now;
    slider.setAttribute("aria-valuetext", show(now));
  }
  function label(name, icon, politeness) {
    part("play").setAttribute("aria-label", name);
    part("play").querySelector("path").setAttribute("d", icon);
    live.setAttribute("aria-live", politeness);
  }
  function pause() {
    clearTimeout(timer);
    timer = 0;
    label("Play", "M3 1v12l10-6z", "polite");
  }
  function play() {
    label("Pause", "M2 1h4v12H2zM8 1h4v12H8z", "off");   // a screen reader could not keep up
    if (now === last) turn(0);
    wait();
  }
  function wait() { timer = setTimeout(() => { turn(now + 1); now < last ? wait() : pause(); }, part("speed").value); }
  function step(to) { pause(); turn(to); }
  function toggle() { timer ? pause() : play(); }

  slider.max = last;
  slider.onpointerdown = pause;
  slider.oninput = () => step(+slider.value);
  part("play").onclick = toggle;
  const by = way => () => step(now + way), keys = {
    ArrowLeft: by(-1), ArrowRight: by(1), PageUp: by(-leap), PageDown: by(leap), Home: () => step(0), End: () => step(last), " ": toggle,
  };
  part("back").onclick = keys.ArrowLeft;
  part("on").onclick = keys.ArrowRight;
  document.onkeydown = event => {
    const native = event.target.matches("select, input[type=number]") || (event.key === " " && event.target.matches("button"));
    const action = keys[event.shiftKey ? { ArrowLeft: "PageUp", ArrowRight: "PageDown" }[event.key] : event.key];
    if (native || event.altKey || event.ctrlKey || event.metaKey || !action) return;
    event.preventDefault();
    action();
  };

  step(last);
  const calm = matchMedia("(prefers-reduced-motion: reduce)"), watch = new IntersectionObserver(([seen]) => {
    if (!seen.isIntersecting) return;
    watch.disconnect();
    if (!calm.matches && last && now === last) play();
  }, { threshold: 0.6 });
  calm.onchange = pause;
  watch.observe(scene);
  return step;
}
