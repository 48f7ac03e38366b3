// An SMSC on the npm package `smpp`, which is not ours: argv is its port, system_id and password.
//
// What becomes of a text shows in the last four digits of its number, as with the simulated
// provider. Every submission, and every answer to a delivery, is a line of JSON on standard output.
'use strict';

const smpp = require('smpp');

const [port, systemId, password] = process.argv.slice(2);
const throttled = new Set();
const kept = []; // receipts for whoever binds next
let ids = 0;

const say = (record) => process.stdout.write(JSON.stringify(record) + '\n');

// Delivers until it is answered with success, as SMSCs do.
function deliver(session, pdu) {
  session.deliver_sm(pdu, (answer) => {
    say({ answered: answer.command_status, to: pdu.source_addr });
    if (answer.command_status !== 0) setTimeout(() => deliver(session, pdu), 200);
  });
}

function receiptText(id, state, error) {
  return `id:${id} sub:001 dlvrd:001 submit date:2611250400 done date:2611250401 ` +
    `stat:${state} err:${error} text:...`;
}

const byText = (id, state, error) => ({ short_message: receiptText(id, state, error) });
const byParameters = (id, number) => ({ receipted_message_id: id, message_state: number });

function receipt(session, submit, fields) {
  deliver(session, {
    source_addr: submit.destination_addr,
    source_addr_ton: 1,
    destination_addr: submit.source_addr,
    esm_class: 0x04,
    data_coding: 0,
    ...fields,
  });
}

function write(session, submit, text) {
  deliver(session, {
    source_addr: submit.destination_addr,
    source_addr_ton: 1,
    destination_addr: submit.source_addr,
    short_message: text,
  });
}

function take(session, pdu) {
  const { message, udh } = pdu.short_message;
  const payload = pdu.message_payload && pdu.message_payload.message;
  say({
    to: pdu.destination_addr,
    from: pdu.source_addr,
    ton: pdu.source_addr_ton,
    text: payload || message,
    udh: udh ? udh.map((one) => one.toString('hex')) : [],
    data_coding: pdu.data_coding,
    registered_delivery: pdu.registered_delivery,
    validity_period: pdu.validity_period,
  });
  const fate = pdu.destination_addr.slice(-4);
  const answer = (fields) => session.send(pdu.response(fields));
  if (fate === '0105') return;
  if (fate === '0101') return answer({ command_status: smpp.ESME_RINVDSTADR });
  if (fate === '0108' && !throttled.has(pdu.destination_addr)) {
    throttled.add(pdu.destination_addr);
    return answer({ command_status: smpp.ESME_RTHROTTLED });
  }
  ids += 1;
  const id = `node-${ids}`;
  if (fate === '0109') receipt(session, pdu, byText(id, 'DELIVRD', '000'));
  answer({ message_id: id });
  if (fate === '0100') receipt(session, pdu, byText(id, 'DELIVRD', '000'));
  if (fate === '0110') kept.push((next) => receipt(next, pdu, byText(id, 'DELIVRD', '000')));
  if (fate === '0107') receipt(session, pdu, byParameters(id, 5));
  if (fate === '0142') write(session, pdu, 'STOP');
}

const server = smpp.createServer((session) => {
  session.on('bind_transceiver', (pdu) => {
    const known = pdu.system_id === systemId && pdu.password === password;
    session.send(pdu.response(known ? {} : { command_status: smpp.ESME_RINVPASWD }));
    if (!known) return session.close();
    kept.splice(0).forEach((one) => one(session));
  });
  session.on('submit_sm', (pdu) => take(session, pdu));
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => {
    session.send(pdu.response());
    session.close();
  });
  session.on('error', () => {});
});
server.listen(Number(port), '127.0.0.1');
