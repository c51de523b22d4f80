// The page of `rill watch`: shows what the node says, and asks it for little. Every address is relative, so
// the secret token of the link stays in each request and nothing is asked of anybody else.

const element = (id) => document.getElementById(id)
const video = element('video')
const PLAYING_SECONDS = 0.5
let state = null
let shown = { root: null, payments: 0 }
let isOver = false

const sat = (msat) => (msat / 1000).toLocaleString('en', { maximumFractionDigits: 3 })
const size = (bytes) => bytes < 1048576 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`

async function ask(path, body) {
  const answer = await fetch(path, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body ?? {}),
  }).catch(() => null)
  if (!answer) return false // the stream of words says it, too
  if (!answer.ok) complain((await answer.json().catch(() => ({}))).error ?? `the node answered ${answer.status}`)
  return answer.ok
}

function complain(sentence) {
  element('problem').textContent = sentence ?? ''
  element('problem').hidden = !sentence
}

// --- what the node says

const words = new EventSource('state')
words.onmessage = (event) => { element('lost').hidden = true; show(JSON.parse(event.data)) }
words.onerror = () => part('The node does not answer. What was bought is kept.')

function part(sentence) {
  element('lost').textContent = sentence
  element('lost').hidden = false
}

function show(next) {
  state = next
  element('node').textContent = next.node
  element('end').hidden = !next.may_finish
  showCatalogue(next.catalogue)
  if (next.film) showFilm(next.film)
}

function showFilm(film) {
  if (film.root !== shown.root) open(film)
  complain(film.problem)
  const button = element('buying')
  const rests = film.is_paused || film.is_stopped
  button.disabled = film.is_complete
  button.setAttribute('aria-pressed', rests)
  button.textContent = rests ? 'Go on buying' : 'Stop buying'
  showMeter(film)
  showRoute(film)
  showProviders(film.providers)
  draw()
}

function open(film) {
  shown = { ...shown, root: film.root, payments: 0 }
  element('title').textContent = film.title
  document.title = `${film.title} – Rill`
  video.src = `content/${film.root}?paced`
  const direct = element('direct')
  direct.href = new URL(`content/${film.root}`, location).href
  direct.hidden = false
  element('budget').value = Math.floor(limit(film) / 1000)
}

const limit = (film) => film.spent_msat + film.reserved_msat + film.left_msat

function showMeter(film) {
  element('spent').textContent = sat(film.spent_msat + film.fee_msat)
  const gauge = element('gauge')
  gauge.setAttribute('aria-valuemax', limit(film))
  gauge.setAttribute('aria-valuenow', film.spent_msat)
  gauge.setAttribute('aria-valuetext', `${sat(film.spent_msat)} of ${sat(limit(film))} sat`)
  gauge.firstElementChild.style.width = `${Math.min(100, 100 * film.spent_msat / Math.max(1, limit(film)))}%`
  element('left').textContent = `${sat(film.left_msat)} sat`
  element('fees').textContent = `${sat(film.fee_msat)} sat`
  element('price').textContent = `${sat(film.price_msat)} sat for ${size(film.chunk_size)}`
  element('whole').textContent = `${sat(film.price_msat * film.chunk_count)} sat`
  element('dust').textContent = film.price_note
  element('dust').hidden = !film.price_note
}

const nameOf = (node) => node.alias || `${node.node_id.slice(0, 8)}…`

function showRoute(film) {
  if (!film.route.length) return
  const list = element('route'), last = film.route.length - 1
  const stations = [{ name: state.node }, ...film.route.map((hop, place) => ({
    name: nameOf(hop),
    note: place === last ? `gets ${sat(film.price_msat)} sat` : `keeps ${sat(hop.fee_msat)} sat`,
  }))]
  list.replaceChildren(...stations.map(({ name, note }) => {
    const item = make('li'), chip = item.appendChild(make('span', 'hop'))
    chip.append(make('b', '', name))
    if (note) chip.append(make('small', '', note))
    return item
  }))
  if (film.chunks_bought !== shown.payments) {
    list.classList.remove('pulse')
    void list.offsetWidth // begin the animation anew
    list.classList.add('pulse')
    shown.payments = film.chunks_bought
  }
}

const rate = (bytes) => bytes ? `${size(bytes)}/s` : '–'

function showProviders(providers) {
  element('providers').replaceChildren(...providers.map((each) => {
    const row = make('tr'), name = make('th', '', nameOf(each))
    name.scope = 'row'
    row.append(name, make('td', '', `${sat(each.price_msat)} sat`), make('td', '', each.chunks),
      make('td', '', rate(each.bytes_per_second)), make('td', '', each.problem || each.state))
    return row
  }))
}

function showCatalogue(entries) {
  const key = JSON.stringify(entries)
  if (shown.catalogue === key || !entries.length) return
  shown.catalogue = key
  element('catalogue').replaceChildren(...entries.map((entry) => {
    const item = make('li'), button = make('button', '', 'Watch')
    button.type = 'button'
    button.setAttribute('aria-label', `Watch ${entry.title}`)
    button.onclick = () => ask('open', { root: entry.root, provider: entry.provider })
    item.append(make('b', '', entry.title), make('small', '', `${size(entry.length)}, ${sat(entry.total_msat)} sat, from ${entry.provider_name}`), button)
    return item
  }))
}

function make(tag, name, text) {
  const made = document.createElement(tag)
  if (name) made.className = name
  if (text !== undefined) made.textContent = text
  return made
}

// --- the timeline: what is bought, what is on its way, where the film is

function draw() {
  const canvas = element('timeline'), film = state?.film
  if (!film) return
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth * ratio, height = canvas.clientHeight * ratio
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
  const pen = canvas.getContext('2d'), style = getComputedStyle(document.documentElement)
  const colour = (name) => style.getPropertyValue(`--${name}`).trim()
  const bar = (from, to, name) => {
    const gap = width / film.chunk_count > 6 * ratio ? ratio : 0
    pen.fillStyle = colour(name)
    for (let chunk = gap ? from : film.chunk_count; chunk < to; chunk++) {
      pen.fillRect(chunk * width / film.chunk_count, 0, width / film.chunk_count - gap, height)
    }
    if (!gap) pen.fillRect(from * width / film.chunk_count, 0, Math.max(1, (to - from) * width / film.chunk_count), height)
  }
  bar(0, film.chunk_count, 'line')
  for (const chunk of film.on_the_way) bar(chunk, chunk + 1, 'coming')
  for (const [from, to] of film.bought) bar(from, to, 'light')
  if (video.duration) {
    pen.fillStyle = colour('ink')
    pen.fillRect(video.currentTime / video.duration * width - ratio, 0, 3 * ratio, height)
    pen.fillRect(0, height - 4 * ratio, bufferedTo() / video.duration * width, 4 * ratio)
  }
  const text = `${film.chunks_bought} of ${film.chunk_count} chunks`
  element('bought-words').textContent = text
  canvas.setAttribute('aria-label', `${text} bought, ${Math.round(100 * film.chunks_bought / film.chunk_count)} %`)
}

function bufferedTo() {
  for (let range = 0; range < video.buffered.length; range++) {
    const from = video.buffered.start(range), to = video.buffered.end(range)
    if (from <= video.currentTime + 0.1 && video.currentTime <= to) return to
  }
  return video.currentTime
}

// --- what the person says

element('timeline').onclick = (event) => {
  if (video.duration) video.currentTime = event.offsetX / event.target.clientWidth * video.duration
}
element('buying').onclick = () => ask('buying', { is_paused: !(state.film.is_paused || state.film.is_stopped) })
element('raise').onsubmit = (event) => {
  event.preventDefault()
  ask('budget', { title_sat: Number(element('budget').value) })
}
element('finish').onclick = async () => {
  element('finish').disabled = true
  if (!await ask('finish')) return
  words.close()
  isOver = true
  element('lost').className = 'calm'
  part('The channels are being closed; the account is where the demo was started.')
}

// The node reads ahead of where the person is, so it is told where that is.
// One word after another: two on their way at once could arrive in the wrong order.
let told = '', isTelling = false
async function tell() {
  while (!isTelling && !isOver && shown.root && video.duration) {
    const position = { seconds: video.currentTime, duration: video.duration, is_playing: !video.paused && !video.ended }
    const key = JSON.stringify([position, shown.root])
    if (key === told) return
    isTelling = true
    const isHeard = await ask('position', position)
    isTelling = false
    if (!isHeard) return
    told = key
  }
}
for (const event of ['play', 'pause', 'seeking', 'loadedmetadata']) video.addEventListener(event, tell)
setInterval(() => { tell(); draw() }, PLAYING_SECONDS * 1000)

// A player gives up when the money ran out or the provider went; once that is mended it goes on where it was.
video.addEventListener('error', () => { shown.broken = { at: video.currentTime, was_playing: !video.ended } })
setInterval(() => {
  if (!shown.broken || !state?.film || state.film.is_stopped || state.film.is_paused) return
  const { at } = shown.broken
  shown.broken = null
  video.load()
  video.addEventListener('loadedmetadata', () => { video.currentTime = at }, { once: true })
  video.play().catch(() => {})
}, 1000)
addEventListener('resize', draw)
