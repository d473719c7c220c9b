// A checkout in Node.js: ask for a route, pay, report what happened.
// Run it while the system is up: npm install && IPA_AMQP_URL=amqp://… node checkout.js
"use strict";

const amqp = require("amqplib");
const { randomUUID } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");

const DEADLINE_MS = 200;
const FALLBACK = ["alpha", "bravo"]; // only for when nobody answers in time
const AGAIN_MS = 1000;

const id = (prefix) => `${prefix}_${randomUUID().replaceAll("-", "")}`;

class Broker {
  #waiting = new Map(); // who waits for the answer to a request, by its id
  #returned = new Set(); // reports that no queue took, by their id
  #isDone = false;

  // All that waits for the broker without a deadline; no payment waits for it. A lost connection is made anew.
  async connect() {
    const connection = (this.connection = await amqp.connect(process.env.IPA_AMQP_URL));
    const lost = (error) => {
      console.error("connection lost:", error.message); // an error that nobody hears would end the process
      connection.close().catch(() => {}); // after an error of one channel the others are still open
    };
    connection.on("error", lost);
    this.asking = (await connection.createChannel()).on("error", lost);
    this.reporting = (await connection.createConfirmChannel()).on("error", lost);
    this.reporting.on("return", (message) => this.#returned.add(message.properties.messageId));
    this.replyTo = (await this.asking.assertQueue("", { exclusive: true })).queue;
    const onAnswer = (message) => message && this.#waiting.get(message.properties.correlationId)?.(message.content);
    await this.asking.consume(this.replyTo, onAnswer, { noAck: true });
    connection.on("close", () => this.#connectAgain());
  }

  async #connectAgain() {
    while (!this.#isDone) {
      await sleep(AGAIN_MS);
      try {
        return await this.connect();
      } catch (error) {
        console.error("not connected:", error.message);
      }
    }
  }

  async close() {
    this.#isDone = true;
    await this.connection.close();
  }

  // Publish a request and wait for its answer; null when nobody answers in time, or the broker is gone.
  async ask(request) {
    const asked = request.request_id;
    let timer;
    try {
      const answered = new Promise((resolve) => {
        timer = setTimeout(resolve, DEADLINE_MS, null);
        this.#waiting.set(asked, resolve);
      });
      this.asking.publish("ipa", "route.requested", Buffer.from(JSON.stringify(request)), {
        type: "route.requested",
        contentType: "application/json",
        messageId: asked,
        correlationId: asked,
        replyTo: this.replyTo,
        expiration: String(DEADLINE_MS),
      });
      const answer = JSON.parse(await answered);
      if (answer?.type !== "route.refused") return answer;
      console.error("request refused:", answer.reason); // a mistake in it, which says nothing about gateways: mend it
    } catch (error) {
      console.error("not asked:", error.message);
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(asked);
    }
    return null;
  }

  // Return when the broker has the report on disk; sent again, with the same id, until it has.
  async report(report) {
    const properties = {
      type: "attempt.reported",
      contentType: "application/json",
      messageId: report.event_id,
      persistent: true,
      mandatory: true,
    };
    const body = Buffer.from(JSON.stringify(report));
    for (;;) {
      try {
        await new Promise((resolve, reject) => {
          const confirmed = (error) => (error ? reject(error) : resolve());
          this.reporting.publish("ipa", "attempt.reported", body, properties, confirmed);
        });
        if (!this.#returned.delete(report.event_id)) return;
        throw new Error("no queue takes it");
      } catch (error) {
        console.error("report waits:", error.message);
        await sleep(AGAIN_MS);
      }
    }
  }
}

async function main() {
  const broker = new Broker();
  await broker.connect();

  const began = new Date().toISOString();
  const payment = {
    order_id: id("ord"),
    method: "upi",
    issuer: "harbour_bank",
    amount_minor: 49900,
    currency: "INR",
    country: "IN",
  };
  const decision = await broker.ask({
    type: "route.requested",
    request_id: id("req"),
    requested_at: began,
    deadline_ms: DEADLINE_MS,
    ...payment,
  });
  if (decision && !decision.ranking.length) {
    console.log("refused:", decision.reason); // no gateway may take this payment, also none of the fallback
    await broker.close();
    return;
  }
  const gateway = decision ? decision.ranking[0].gateway : FALLBACK[0];
  console.log("gateway", gateway, decision ? "answered" : "fallback");

  // ... take the payment at the gateway here ...

  await broker.report({
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
  });
  console.log("reported", payment.order_id);
  await broker.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
