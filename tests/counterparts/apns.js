// Apple's push service as Apple documents it, on node's own HTTP/2, which is not ours. `apple.py`
// starts it; device tokens begin with a word that names what shall become of their notification.
// Each session and each request is written to the log as a line of JSON.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const http2 = require('node:http2');

const settings = JSON.parse(process.argv[2]); // port, topic, atOnce; files: key, cert, public
const publicKey = crypto.createPublicKey(fs.readFileSync(settings.public));
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const HOUR = 3600;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const KINDS = ['alert', 'background', 'location', 'voip', 'complication', 'fileprovider', 'mdm'];

// What Apple takes for a provider token, or the reason why it does not.
function wrongToken(header) {
  const [kind, token] = (header || '').split(' ');
  if (kind.toLowerCase() !== 'bearer' || !token) return 'MissingProviderToken';
  const parts = token.split('.');
  const [head, claims] = parts.slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  const signed = Buffer.from(parts.slice(0, 2).join('.'));
  const signature = Buffer.from(parts[2], 'base64url');
  const key = { key: publicKey, dsaEncoding: 'ieee-p1363' };
  const good = head.alg === 'ES256' && head.kid && claims.iss;
  if (!good || !crypto.verify('sha256', signed, key, signature)) return 'InvalidProviderToken';
  return Math.abs(Date.now() / 1000 - claims.iat) > HOUR ? 'ExpiredProviderToken' : null;
}

// The status and the reason for which a request is not taken, or null.
function wrong(headers, body) {
  if (headers[':method'] !== 'POST') return [405, 'MethodNotAllowed'];
  if (!/^\/3\/device\/[^/?]+$/.test(headers[':path'])) return [404, 'BadPath'];
  const token = wrongToken(headers.authorization);
  if (token) return [403, token];
  if (!headers['apns-topic']) return [400, 'MissingTopic'];
  if (headers['apns-topic'] !== settings.topic) return [400, 'TopicDisallowed'];
  if (!KINDS.includes(headers['apns-push-type'])) return [400, 'InvalidPushType'];
  if (!['1', '5', '10'].includes(headers['apns-priority'] ?? '10')) return [400, 'BadPriority'];
  if (!/^\d+$/.test(headers['apns-expiration'] ?? '0')) return [400, 'BadExpirationDate'];
  if (!UUID.test(headers['apns-id'] ?? crypto.randomUUID())) return [400, 'BadMessageId'];
  if (Buffer.byteLength(headers['apns-collapse-id'] ?? '') > 64) return [400, 'BadCollapseId'];
  if (body.length > 4096) return [413, 'PayloadTooLarge'];
  return typeof JSON.parse(body || '{}').aps === 'object' ? null : [400, 'PayloadEmpty'];
}

function answer(stream, headers, status, value) {
  const id = headers['apns-id'] || crypto.randomUUID();
  stream.respond({ ':status': status, 'apns-id': id });
  // node ends a body by a frame of no length, as servers may.
  stream.end(value === undefined ? undefined : JSON.stringify(value));
}

// One call at a time, until one has proved who calls; then as many as it likes.
function trust(session) {
  if (!session.trusted) session.settings({ maxConcurrentStreams: settings.atOnce });
  session.trusted = true;
}

const refused = (status, reason, more) => (stream, headers) =>
  answer(stream, headers, status, { reason, ...more });
const silent = () => {};

const FATES = {
  taken: (stream, headers) => answer(stream, headers, 200),
  gone: refused(410, 'Unregistered', { timestamp: 1790000000000 }),
  bad: refused(400, 'BadDeviceToken'),
  many: refused(429, 'TooManyRequests'),
  busy: refused(503, 'ServiceUnavailable'),
  silent,
  reset: (stream) => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR),
  unseen: (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM),
  // Frames of no length before and between what is said
  empty: (stream, headers) => {
    stream.respond({ ':status': 400, 'apns-id': headers['apns-id'] });
    stream.write(Buffer.alloc(0));
    stream.write('{"reason":', () => {
      stream.write(Buffer.alloc(0));
      stream.end('"BadDeviceToken"}');
    });
  },
  // Only a client that answers pings is answered.
  ping: (stream, headers) =>
    stream.session.ping((error) => error || answer(stream, headers, 200)),
  // Waits until its server goes away, and is answered then.
  late: (stream, headers) => stream.session.late.push(() => answer(stream, headers, 200)),
  // Goes away, having looked at what came before this one, and answers that.
  leaves: (stream) => {
    const { session } = stream;
    session.goaway(http2.constants.NGHTTP2_NO_ERROR, Math.max(stream.id - 2, 0));
    session.late.forEach((finish) => finish());
  },
  // Says that it will go away, then with which call, and answers that
  warns: (stream, headers) => {
    stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1);
    stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
    answer(stream, headers, 200);
  },
  // Goes away having looked at everything, and ends without another word.
  ends: (stream) => {
    stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
    setImmediate(() => stream.session.destroy());
  },
  drops: (stream) => stream.session.wire.destroy(),
};

const server = http2.createSecureServer({
  key: fs.readFileSync(settings.key),
  cert: fs.readFileSync(settings.cert),
  settings: { maxConcurrentStreams: 1 },
});
let wire;
server.prependListener('secureConnection', (socket) => { wire = socket; });
server.on('session', (session) => {
  session.late = [];
  session.open = 0;
  session.wire = wire; // its own is a stand-in that cannot be broken
  session.on('error', () => {});
  say({ session: true });
});
server.on('stream', (stream, headers) => {
  const { session } = stream;
  const chunks = [];
  session.open += 1;
  stream.on('close', () => { session.open -= 1; });
  stream.on('error', () => {});
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => {
    const body = Buffer.concat(chunks).toString();
    say({ path: headers[':path'], open: session.open });
    const not = wrong(headers, body);
    if (not) return answer(stream, headers, not[0], { reason: not[1] });
    trust(session);
    const word = /^[a-z]+/.exec(headers[':path'].split('/').pop())[0];
    return FATES[word](stream, headers);
  });
});
server.listen(settings.port, '127.0.0.1', () => say({ listening: settings.port }));
