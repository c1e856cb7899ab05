//! AMQP's entities as the broker's: a vhost is a namespace, an exchange a topic, a queue a queue, a stream a topic with a log.
