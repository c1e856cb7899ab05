// What Go services do with RabbitMQ, done by its own client. Takes the server's URL.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Longest that something may take to arrive.
const patience = 10 * time.Second

var address string

// A check fails by the first of these that is handed an error.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func require(holds bool, format string, values ...any) {
	if !holds {
		panic(fmt.Errorf(format, values...))
	}
}

func dial() *amqp.Connection {
	connection, err := amqp.Dial(address)
	must(err)
	return connection
}

func channel(connection *amqp.Connection) *amqp.Channel {
	opened, err := connection.Channel()
	must(err)
	return opened
}

var made int

func declare(on *amqp.Channel, arguments amqp.Table) string {
	made++
	name := fmt.Sprintf("check-go-%d-%d", os.Getpid(), made)
	_, err := on.QueueDeclare(name, true, false, false, false, arguments)
	must(err)
	return name
}

func within(what string, arrived <-chan *amqp.Error) *amqp.Error {
	select {
	case found := <-arrived:
		return found
	case <-time.After(patience):
		panic(errors.New(what + " did not come"))
	}
}

func publish(on *amqp.Channel, exchange, key, body string, mandatory, immediate bool) *amqp.DeferredConfirmation {
	message := amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
	confirmation, err := on.PublishWithDeferredConfirmWithContext(context.Background(), exchange, key, mandatory, immediate, message)
	must(err)
	return confirmation
}

func concurrentPublishersAreConfirmed(connection *amqp.Connection) {
	const publishers, each = 16, 200
	setup := channel(connection)
	queue := declare(setup, nil)
	var group sync.WaitGroup
	failed := make(chan error, publishers)
	for range publishers {
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() {
				if found := recover(); found != nil {
					failed <- found.(error)
				}
			}()
			mine := channel(connection)
			must(mine.Confirm(false))
			waiting := []*amqp.DeferredConfirmation{}
			for range each {
				waiting = append(waiting, publish(mine, "", queue, "x", false, false))
			}
			deadline, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for _, confirmation := range waiting {
				confirmed, err := confirmation.WaitContext(deadline)
				must(err)
				require(confirmed, "a message was refused")
			}
			must(mine.Close())
		}()
	}
	group.Wait()
	close(failed)
	for err := range failed {
		must(err)
	}
	found, err := setup.QueueDeclarePassive(queue, true, false, false, false, nil)
	must(err)
	require(found.Messages == publishers*each, "%d messages are there, not %d", found.Messages, publishers*each)
	purged, err := setup.QueuePurge(queue, false)
	must(err)
	require(purged == publishers*each, "%d were purged", purged)
}

func everyTypeOfFieldArrives(connection *amqp.Connection) {
	on := channel(connection)
	queue := declare(on, nil)
	headers := amqp.Table{
		"bool": true, "byte": byte(200), "int8": int8(-5), "int16": int16(-300), "int32": int32(7), "int64": int64(1) << 40,
		"float32": float32(0.5), "float64": 2.5, "decimal": amqp.Decimal{Scale: 2, Value: 1234}, "string": "grüße", "bytes": []byte{0, 255},
		"time": time.Unix(1700000000, 0), "nil": nil, "table": amqp.Table{"deep": amqp.Table{"n": int32(1)}}, "list": []any{int32(1), "two", nil},
	}
	message := amqp.Publishing{Headers: headers, Body: []byte("x")}
	must(on.PublishWithContext(context.Background(), "", queue, false, false, message))
	var found amqp.Delivery
	for begun, ok := time.Now(), false; !ok; {
		var err error
		found, ok, err = on.Get(queue, true)
		must(err)
		require(ok || time.Since(begun) < patience, "nothing came")
	}
	require(len(found.Headers) == len(headers), "%d headers came: %v", len(found.Headers), found.Headers)
	for name, value := range headers {
		given := found.Headers[name]
		require(fmt.Sprintf("%T %v", given, given) == fmt.Sprintf("%T %v", value, value), "the header %s came as %T %v", name, given, given)
	}
}

func returnsComeBeforeTheirConfirms(connection *amqp.Connection) {
	on := channel(connection)
	must(on.Confirm(false))
	returned := on.NotifyReturn(make(chan amqp.Return, 1))
	confirmation := publish(on, "", "check-go-nowhere", "x", true, false)
	require(confirmation.Wait(), "it was refused")
	select {
	case found := <-returned:
		require(found.ReplyCode == amqp.NoRoute, "it came back with %d", found.ReplyCode)
	default:
		panic(errors.New("the confirm came first"))
	}
}

func immediateIsRefused(_ *amqp.Connection) {
	connection := dial()
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	on := channel(connection)
	publish(on, "", "x", "x", false, true)
	found := within("the close of the connection", closed)
	require(found != nil && found.Code == amqp.NotImplemented, "the connection was closed with %v", found)
}

func aMistakeClosesItsChannelAlone(connection *amqp.Connection) {
	bystander, on := channel(connection), channel(connection)
	closed := on.NotifyClose(make(chan *amqp.Error, 1))
	_, err := on.QueueDeclarePassive("check-go-none", true, false, false, false, nil)
	var wrong *amqp.Error
	require(errors.As(err, &wrong) && wrong.Code == amqp.NotFound, "%v", err)
	within("the close of the channel", closed)
	declare(bystander, nil)
	// Its number can be opened again.
	declare(channel(connection), nil)
}

func manyChannelsOpenAndClose(connection *amqp.Connection) {
	channels := []*amqp.Channel{}
	for range 500 {
		channels = append(channels, channel(connection))
	}
	queue := declare(channels[499], amqp.Table{"x-expires": int32(60000)})
	for _, on := range channels[:499] {
		must(on.Close())
	}
	_, err := channels[499].QueueDeclarePassive(queue, true, false, false, false, nil)
	must(err)
}

func consumersShareInTurn(connection *amqp.Connection) {
	on := channel(connection)
	queue := declare(on, nil)
	consumers := []<-chan amqp.Delivery{}
	for range 2 {
		each := channel(connection)
		must(each.Qos(1, 0, false))
		deliveries, err := each.Consume(queue, "", false, false, false, false, nil)
		must(err)
		consumers = append(consumers, deliveries)
	}
	for number := range 20 {
		publish(on, "", queue, fmt.Sprint(number), false, false)
	}
	counts := [2]int{}
	timeout := time.After(patience)
	for range 20 {
		select {
		case delivery := <-consumers[0]:
			counts[0]++
			must(delivery.Ack(false))
		case delivery := <-consumers[1]:
			counts[1]++
			must(delivery.Ack(false))
		case <-timeout:
			panic(fmt.Errorf("only %v came", counts))
		}
	}
	require(counts[0] > 0 && counts[1] > 0, "one consumer got nothing: %v", counts)
}

func aConnectionHasWhatItAskedFor(_ *amqp.Connection) {
	config := amqp.Config{Heartbeat: 2 * time.Second, FrameSize: 8192, ChannelMax: 7}
	connection, err := amqp.DialConfig(address, config)
	must(err)
	defer connection.Close()
	require(connection.Config.FrameSize == 8192 && connection.Config.ChannelMax == 7 && connection.Config.Heartbeat == 2*time.Second,
		"agreed on %v", connection.Config)
	capabilities, _ := connection.Properties["capabilities"].(amqp.Table)
	for _, name := range []string{"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
		"connection.blocked", "per_consumer_qos", "authentication_failure_close", "direct_reply_to"} {
		require(capabilities[name] == true, "the server does not have %s", name)
	}
	// Nothing is sent for longer than two heartbeats but the heartbeats themselves, both ways.
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	select {
	case found := <-closed:
		panic(fmt.Errorf("an idle connection was closed: %v", found))
	case <-time.After(5 * time.Second):
	}
	on := channel(connection)
	queue := declare(on, nil)
	body := make([]byte, 100_000)
	must(on.PublishWithContext(context.Background(), "", queue, false, false, amqp.Publishing{Body: body}))
	deliveries, err := on.Consume(queue, "", true, false, false, false, nil)
	must(err)
	select {
	case delivery := <-deliveries:
		require(len(delivery.Body) == len(body), "%d bytes came", len(delivery.Body))
	case <-time.After(patience):
		panic(errors.New("nothing came in small frames"))
	}
}

func aSecretCanBeRenewed(connection *amqp.Connection) {
	given, err := url.Parse(address)
	must(err)
	password, _ := given.User.Password()
	must(connection.UpdateSecret(password, "check"))
	declare(channel(connection), nil)
}

func main() {
	address = os.Args[1]
	checks := []struct {
		name string
		run  func(*amqp.Connection)
	}{
		{"concurrent publishers are confirmed", concurrentPublishersAreConfirmed},
		{"every type of field arrives", everyTypeOfFieldArrives},
		{"returns come before their confirms", returnsComeBeforeTheirConfirms},
		{"immediate is refused", immediateIsRefused},
		{"a mistake closes its channel alone", aMistakeClosesItsChannelAlone},
		{"many channels open and close", manyChannelsOpenAndClose},
		{"consumers share in turn", consumersShareInTurn},
		{"a connection has what it asked for", aConnectionHasWhatItAskedFor},
		{"a secret can be renewed", aSecretCanBeRenewed},
	}
	failed := 0
	for _, check := range checks {
		err := func() (err error) {
			defer func() {
				if found := recover(); found != nil {
					err = fmt.Errorf("%v", found)
				}
			}()
			connection := dial()
			defer connection.Close()
			check.run(connection)
			return nil
		}()
		if err != nil {
			failed++
			fmt.Printf("FAILED  %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("ok      %s\n", check.name)
	}
	fmt.Printf("%d checks, %d failed\n", len(checks), failed)
	if failed > 0 {
		os.Exit(1)
	}
}
