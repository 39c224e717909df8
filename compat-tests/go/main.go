// A stock client of Apache Kafka, driven by the compatibility tests: `driver franz-go|sarama HOST:PORT`.
//
// One request a line on stdin, one answer a line on stdout, both JSON; harness/driver.py has the words of it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Record is a record as the tests see it: text throughout. Partition and Offset are filled in when it is read.
type Record struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Key       string            `json:"key"`
	Value     string            `json:"value"`
	Headers   map[string]string `json:"headers"`
}

// Request has the fields of all requests; each uses some.
type Request struct {
	Do         string              `json:"do"`
	Topic      string              `json:"topic"`
	Codec      string              `json:"codec"`
	Idempotent bool                `json:"idempotent"`
	Partitions int32               `json:"partitions"`
	Count      int                 `json:"count"`
	Records    []Record            `json:"records"`
	Member     string              `json:"member"`
	Group      string              `json:"group"`
	Protocol   string              `json:"protocol"`
	Configs    map[string]string   `json:"configs"`
	Kind       string              `json:"kind"`
	Name       string              `json:"name"`
	Offsets    map[int32]int64     `json:"offsets"`
	Spec       string              `json:"spec"`
	Replicas   int16               `json:"replicas"`
	Entity     map[string]string   `json:"entity"`
	Limits     map[string]*float64 `json:"limits"`
	Level      int16               `json:"level"`
	Producer   string              `json:"producer"`
	TxnID      string              `json:"transactional_id"`
	Committed  bool                `json:"committed"`
}

// Nothing is the answer to what has no result.
var Nothing = struct{}{}

type operation func(Request) (any, error)

func main() {
	var operations map[string]operation
	switch os.Args[1] {
	case "franz-go":
		operations = franzOperations(os.Args[2])
	case "sarama":
		operations = saramaOperations(os.Args[2])
	case "processor":
		os.Exit(process(os.Args[2:]))
	}
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var request Request
		if err := json.Unmarshal(line, &request); err != nil {
			panic(err)
		}
		out.Encode(answer(operations, request))
	}
}

func answer(operations map[string]operation, request Request) map[string]any {
	do, known := operations[request.Do]
	if !known {
		return map[string]any{"error": map[string]any{"code": nil, "message": "no such request: " + request.Do}}
	}
	result, err := do(request)
	if err != nil {
		return map[string]any{"error": map[string]any{"code": codeOf(err), "message": err.Error()}}
	}
	return map[string]any{"ok": result}
}

// codeOf is Kafka's error code in an error of either library; nil when it has none.
func codeOf(err error) any {
	var franz *kerr.Error
	if errors.As(err, &franz) {
		return franz.Code
	}
	var code sarama.KError
	if errors.As(err, &code) {
		return int16(code)
	}
	return nil
}

// versionOf is the version of a module that this program was built with.
func versionOf(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	panic(fmt.Sprintf("not built with %s", module))
}

func stringsOf(values map[string]string) map[string]*string {
	pointers := map[string]*string{}
	for name, value := range values {
		pointers[name] = &value
	}
	return pointers
}
