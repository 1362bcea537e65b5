// Keeps a page fresh: asks for it again, and puts what has changed into the one that is shown. Where there are no scripts
// the page asks for itself, seldom. On the sign-in page, hands over the token that the link carried.
'use strict';

(() => {
  const EVERY_MS = 2000;
  const EVERY_MS_MAX = 30000;
  // News are read aloud: no more often than anybody could follow.
  const NEWS_EVERY_MS = 10000;

  const form = document.getElementById('sign-in');
  if (form) {
    // After the #, so that no server log and no other page ever sees it; and out of the history at once.
    const enter = () => {
      const token = new URLSearchParams(location.hash.slice(1)).get('token');
      if (!token) return;
      history.replaceState(null, '', location.pathname + location.search);
      form.elements.token.value = token;
      form.submit();
    };
    // A link that is opened where this page is shown already does not load it anew.
    addEventListener('hashchange', enter);
    enter();
    return;
  }

  const main = document.querySelector('main[data-live]');
  const live = document.getElementById('live');
  const news = document.getElementById('news');
  if (!main || !live) return;

  const state = document.createElement('span');
  const button = document.createElement('button');
  button.type = 'button';
  live.append(state, button);

  let paused = false;
  let wait = EVERY_MS;
  let timer = 0;
  let told = main.dataset.news;
  let toldAt = 0;

  const show = (text, isLost) => {
    state.textContent = text;
    state.classList.toggle('lost', isLost);
  };

  const say = (text) => {
    const now = Date.now();
    if (text === told || now - toldAt < NEWS_EVERY_MS) return;
    told = text;
    toldAt = now;
    news.textContent = text;
  };

  // Whether one may become the other, rather than give way to it.
  const alike = (one, other) =>
    one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || '') === (other.id || '');

  const copyAttributes = (into, from) => {
    for (const { name } of [...into.attributes]) {
      // Whether something is unfolded is up to who looks.
      if (!from.hasAttribute(name) && name !== 'open') into.removeAttribute(name);
    }
    for (const { name, value } of from.attributes) {
      if (into.getAttribute(name) !== value) into.setAttribute(name, value);
    }
  };

  // Makes a part of the page like another, and keeps what is the same, so that focus and scrolling stay where they are.
  const become = (into, from) => {
    if (into.nodeType !== Node.ELEMENT_NODE) {
      if (into.nodeValue !== from.nodeValue) into.nodeValue = from.nodeValue;
      return;
    }
    copyAttributes(into, from);
    let at = into.firstChild;
    for (const next of [...from.childNodes]) {
      let match = at && alike(at, next) ? at : null;
      if (!match && next.id) match = [...into.children].find((child) => alike(child, next)) || null;
      if (!match) {
        into.insertBefore(document.importNode(next, true), at);
        continue;
      }
      if (match !== at) into.insertBefore(match, at);
      become(match, next);
      at = match.nextSibling;
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const freshen = async () => {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' }, cache: 'no-store' });
    if (answer.status === 401) {
      // The token was taken away, or the week is over.
      location.reload();
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = page.querySelector('main');
    if (!fresh || (!answer.ok && answer.status !== 404)) throw new Error(String(answer.status));
    const focused = document.activeElement;
    become(main, fresh);
    if (focused && focused.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
    document.title = page.title;
    if (main.dataset.news) say(main.dataset.news);
  };

  const look = async () => {
    clearTimeout(timer);
    if (paused || document.hidden) return;
    try {
      await freshen();
      wait = EVERY_MS;
      show(`Live, as of ${new Date().toLocaleTimeString()}`, false);
    } catch {
      wait = Math.min(2 * wait, EVERY_MS_MAX);
      show('The broker does not answer; asking again', true);
      say('The broker does not answer.');
    }
    if (!paused) timer = setTimeout(look, wait);
  };

  const rest = (pause) => {
    paused = pause;
    button.textContent = paused ? 'Go on' : 'Pause';
    if (paused) {
      clearTimeout(timer);
      show(`Paused at ${new Date().toLocaleTimeString()}`, false);
    } else {
      look();
    }
  };

  button.addEventListener('click', () => rest(!paused));
  document.addEventListener('visibilitychange', look);
  rest(false);
})();
