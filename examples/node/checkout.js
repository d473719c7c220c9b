// A checkout in Node.js: ask for a route, pay, report what happened.
// Run it while the system is up: npm install && IPA_AMQP_URL=amqp://… node checkout.js
"use strict";

const amqp = require("amqplib");
const { randomUUID } = require("node:crypto");

const DEADLINE_MS = 200;
const FALLBACK = ["alpha", "bravo"];

const id = (prefix) => `${prefix}_${randomUUID().replaceAll("-", "")}`;

// Publish a request and wait for its answer; null when nobody answers in time.
async function ask(channel, replyTo, request) {
  let consumerTag;
  const answer = new Promise((resolve) => {
    const onAnswer = (message) => {
      if (message && message.properties.correlationId === request.request_id) resolve(JSON.parse(message.content));
    };
    channel.consume(replyTo, onAnswer, { noAck: true }).then((consumer) => {
      consumerTag = consumer.consumerTag;
      channel.publish("ipa", "route.requested", Buffer.from(JSON.stringify(request)), {
        type: "route.requested",
        contentType: "application/json",
        messageId: request.request_id,
        correlationId: request.request_id,
        replyTo,
        expiration: String(DEADLINE_MS),
      });
    });
  });
  const late = new Promise((resolve) => setTimeout(resolve, DEADLINE_MS, null));
  const decision = await Promise.race([answer, late]);
  if (consumerTag) await channel.cancel(consumerTag);
  return decision && decision.type === "route.advised" ? decision : null;
}

async function main() {
  const connection = await amqp.connect(process.env.IPA_AMQP_URL);
  const asking = await connection.createChannel();
  const reporting = await connection.createConfirmChannel();
  const { queue: replyTo } = await asking.assertQueue("", { exclusive: true });

  const began = new Date().toISOString();
  const payment = {
    order_id: id("ord"),
    method: "upi",
    issuer: "harbour_bank",
    amount_minor: 49900,
    currency: "INR",
    country: "IN",
  };
  const request = { type: "route.requested", request_id: id("req"), requested_at: began, ...payment };
  const decision = await ask(asking, replyTo, request);
  const gateway = decision && decision.ranking.length ? decision.ranking[0].gateway : FALLBACK[0];
  console.log("gateway", gateway, decision ? "answered" : "fallback");

  // ... take the payment at the gateway here ...

  const report = {
    type: "attempt.reported",
    event_id: id("evt"),
    attempt_id: id("att"),
    gateway,
    status: "succeeded",
    attempted_at: began,
    occurred_at: new Date().toISOString(),
    latency_ms: 812,
    decision_id: decision ? decision.decision_id : null,
    ...payment,
  };
  reporting.publish("ipa", "attempt.reported", Buffer.from(JSON.stringify(report)), {
    type: "attempt.reported",
    contentType: "application/json",
    messageId: report.event_id,
    persistent: true,
    mandatory: true,
  });
  await reporting.waitForConfirms(); // the broker has it on disk
  console.log("reported", payment.order_id);
  await connection.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
