// What services on node do with RabbitMQ, done by amqplib. Takes the port.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const amqp = require('amqplib');
const callbacks = require('amqplib/callback_api');

const url = `amqp://guest:guest@127.0.0.1:${process.argv[2]}`;
const fresh = (kind) => `check-${kind}-${crypto.randomBytes(6).toString('hex')}`;

// The next so many messages of a consumer, not acknowledged yet.
function take(channel, queue, count, options = {}) {
  return new Promise((resolve, reject) => {
    const came = [];
    const timer = setTimeout(() => reject(new Error(`only ${came.length} of ${count} messages came`)), 10000);
    channel.consume(queue, (message) => {
      if (message === null) return;
      came.push(message);
      if (came.length === count) {
        clearTimeout(timer);
        channel.cancel(message.fields.consumerTag).then(() => resolve(came), reject);
      }
    }, options).catch(reject);
  });
}

// A channel that the server must close with this code. Its error comes as an event.
async function closed(connection, code, act) {
  const channel = await connection.createChannel();
  const error = new Promise((resolve) => channel.once('error', resolve));
  await Promise.resolve(act(channel)).catch(() => {});
  const found = await Promise.race([error, new Promise((_, reject) => setTimeout(() => reject(new Error(`no close with ${code}`)), 10000).unref())]);
  assert.strictEqual(found.code, code, found.message);
}

const checks = {
  async properties_arrive_unchanged(connection) {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue(fresh('q'), { durable: true });
    const headers = {
      text: 'grüße', int: 7, large: 2 ** 40, double: 2.5, yes: true, nothing: null, table: { inner: { deep: 'x' } }, list: [1, 'two', { three: 3 }],
      decimal: { '!': 'decimal', value: { digits: 1234, places: 2 } }, when: { '!': 'timestamp', value: 1700000000 },
      byte: { '!': 'byte', value: -5 }, short: { '!': 'short', value: -300 }, float: { '!': 'float', value: 0.5 }, bytes: Buffer.from([0, 255]),
    };
    const options = {
      persistent: true, headers, contentType: 'application/json', contentEncoding: 'gzip', priority: 3, correlationId: 'c-1', replyTo: 'answers',
      expiration: '600000', messageId: 'm-1', timestamp: 1700000000, type: 'kind', userId: 'guest', appId: 'check',
    };
    channel.sendToQueue(queue, Buffer.from('{}'), options);
    await channel.waitForConfirms();
    const message = await channel.get(queue);
    const { properties } = message;
    for (const [name, value] of Object.entries(headers)) {
      const wanted = value && value['!'] && !['decimal', 'timestamp'].includes(value['!']) ? value.value : value;
      assert.deepStrictEqual(properties.headers[name], wanted, `the header ${name}`);
    }
    const { persistent, headers: _, ...plain } = options;
    for (const [name, value] of Object.entries(plain)) assert.strictEqual(properties[name], value, `the property ${name}`);
    assert.strictEqual(properties.deliveryMode, 2);
    channel.ack(message);
    assert.strictEqual(await channel.get(queue), false);
    await channel.deleteQueue(queue);
  },

  async many_are_confirmed_consumed_and_acknowledged(connection) {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue(fresh('q'));
    for (let number = 0; number < 1000; number += 1) channel.sendToQueue(queue, Buffer.from(String(number)), { persistent: true });
    await channel.waitForConfirms();
    await channel.prefetch(50);
    const came = await new Promise((resolve, reject) => {
      const bodies = [];
      channel.consume(queue, (message) => {
        if (message === null) return;
        bodies.push(message.content.toString());
        channel.ack(message);
        if (bodies.length === 1000) resolve(bodies);
      }).catch(reject);
    });
    assert.deepStrictEqual(came, Array.from({ length: 1000 }, (_, number) => String(number)));
    await channel.deleteQueue(queue);
  },

  async what_has_no_route_is_returned(connection) {
    const channel = await connection.createConfirmChannel();
    const returned = new Promise((resolve) => channel.once('return', resolve));
    channel.publish('', fresh('nowhere'), Buffer.from('x'), { mandatory: true });
    await channel.waitForConfirms();
    assert.strictEqual((await returned).fields.replyCode, 312);
  },

  async a_refused_message_comes_again_then_is_a_dead_letter(connection) {
    const channel = await connection.createConfirmChannel();
    const graves = (await channel.assertQueue(fresh('graves'))).queue;
    const { queue } = await channel.assertQueue(fresh('q'), { deadLetterExchange: '', deadLetterRoutingKey: graves });
    channel.sendToQueue(queue, Buffer.from('x'));
    await channel.waitForConfirms();
    let [message] = await take(channel, queue, 1);
    assert.strictEqual(message.fields.redelivered, false);
    channel.nack(message);
    [message] = await take(channel, queue, 1);
    assert.strictEqual(message.fields.redelivered, true);
    channel.reject(message, false);
    [message] = await take(channel, graves, 1);
    const [death] = message.properties.headers['x-death'];
    assert.deepStrictEqual([death.queue, death.reason, death.count], [queue, 'rejected', 1]);
    assert.deepStrictEqual(death['routing-keys'], [queue]);
    channel.ack(message);
  },

  async options_of_queues_hold(connection) {
    const channel = await connection.createConfirmChannel();
    const short = (await channel.assertQueue(fresh('q'), { maxLength: 1 })).queue;
    const first = (await channel.assertQueue(fresh('q'), { maxPriority: 5 })).queue;
    const fleeting = (await channel.assertQueue(fresh('q'), { messageTtl: 50 })).queue;
    for (const number of [1, 2, 3]) {
      channel.sendToQueue(short, Buffer.from(String(number)));
      channel.sendToQueue(first, Buffer.from(String(number)), { priority: number });
    }
    channel.sendToQueue(fleeting, Buffer.from('x'));
    await channel.waitForConfirms();
    assert.deepStrictEqual((await take(channel, short, 1)).map((message) => message.content.toString()), ['3']);
    assert.deepStrictEqual((await take(channel, first, 3)).map((message) => message.content.toString()), ['3', '2', '1']);
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.strictEqual((await channel.checkQueue(fleeting)).messageCount, 0);
  },

  async exchanges_of_every_kind_route(connection) {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const [kind, key, options, args] of [
      ['direct', 'a', {}, {}], ['fanout', '', {}, {}], ['topic', 'a.b.c', {}, {}], ['headers', '', { headers: { h: 1 } }, { 'x-match': 'all', h: 1 }],
    ]) {
      const exchange = fresh(kind);
      const front = fresh('front');
      await channel.assertExchange(exchange, kind);
      await channel.assertExchange(front, 'fanout', { alternateExchange: 'amq.fanout' });
      await channel.bindQueue(queue, exchange, kind === 'topic' ? 'a.#' : key, args);
      await channel.bindExchange(exchange, front, '');
      channel.publish(front, key, Buffer.from(kind), options);
      await channel.waitForConfirms();
      const [message] = await take(channel, queue, 1, { noAck: true });
      assert.deepStrictEqual([message.content.toString(), message.fields.exchange, message.fields.routingKey], [kind, front, key]);
      await channel.unbindExchange(exchange, front, '');
      await channel.unbindQueue(queue, exchange, kind === 'topic' ? 'a.#' : key, args);
      await channel.deleteExchange(exchange);
    }
  },

  async replies_find_their_way_back(connection) {
    const asking = await connection.createChannel();
    const answering = await connection.createChannel();
    const { queue } = await answering.assertQueue('', { exclusive: true });
    await answering.consume(queue, (message) => {
      answering.sendToQueue(message.properties.replyTo, message.content, { correlationId: message.properties.correlationId });
    }, { noAck: true });
    const replies = take(asking, 'amq.rabbitmq.reply-to', 3, { noAck: true });
    // The consumer must be there before the first request: what is answered on the channel says that it is.
    await asking.checkQueue(queue);
    for (const id of ['1', '2', '3']) asking.sendToQueue(queue, Buffer.from(id), { replyTo: 'amq.rabbitmq.reply-to', correlationId: id });
    assert.deepStrictEqual((await replies).map((reply) => [reply.properties.correlationId, reply.content.toString()]), [['1', '1'], ['2', '2'], ['3', '3']]);
  },

  async a_consumer_is_told_when_its_queue_goes(connection) {
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue(fresh('q'));
    const cancelled = new Promise((resolve) => channel.consume(queue, (message) => message === null && resolve()));
    await (await connection.createChannel()).deleteQueue(queue);
    await cancelled;
  },

  async mistakes_close_the_channel_and_no_other(connection) {
    const bystander = await connection.createChannel();
    const { queue } = await bystander.assertQueue(fresh('q'));
    await closed(connection, 404, (channel) => channel.checkQueue(fresh('none')));
    await closed(connection, 406, (channel) => channel.assertQueue(queue, { durable: false }));
    await closed(connection, 403, (channel) => channel.assertQueue('amq.mine'));
    await closed(connection, 406, (channel) => channel.ack({ fields: { deliveryTag: 99 } }));
    await closed(connection, 404, (channel) => channel.publish(fresh('none'), '', Buffer.from('x')));
    assert.strictEqual((await bystander.checkQueue(queue)).queue, queue);
  },
};

// The same by callbacks, as older services are written.
function by_callbacks() {
  return new Promise((resolve, reject) => {
    const or = (next) => (error, value) => (error ? reject(error) : next(value));
    callbacks.connect(url, or((connection) => connection.createConfirmChannel(or((channel) => {
      channel.assertQueue(fresh('q'), {}, or(({ queue }) => {
        channel.consume(queue, (message) => {
          channel.ack(message);
          assert.strictEqual(message.content.toString(), 'hello');
          channel.deleteQueue(queue, {}, or(() => channel.close(or(() => connection.close(or(resolve))))));
        }, {}, or(() => channel.sendToQueue(queue, Buffer.from('hello'), { persistent: true }, (error) => error && reject(error))));
      }));
    }))));
  });
}

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries({ ...checks, by_callbacks })) {
    const connection = await amqp.connect(url);
    const lost = [];
    connection.on('error', (error) => lost.push(error));
    try {
      await check(connection);
      assert.deepStrictEqual(lost, [], 'the connection was closed');
      console.log(`ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}: ${error.stack}`);
    }
    await connection.close().catch(() => {});
  }
  console.log(`${Object.keys(checks).length + 1} checks, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}

main();
