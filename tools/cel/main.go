// The CEL evaluator as a WebAssembly reactor: the caller writes a request as JSON into memory that `alloc` gave out,
// calls `run`, and reads the reply, also JSON, at the address in the upper half of the result; its length is the lower.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unsafe"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"
)

const (
	// Spec 10 §2.
	costLimit = 10_000_000
	// Longer text than this is refused before it is parsed.
	maxExpressionCodePoints = 16_384
	maxNesting              = 100
	maxPrograms             = 256
)

type request struct {
	Expression string          `json:"expression"`
	Object     json.RawMessage `json:"object"`
}

type reply struct {
	Kind    string `json:"kind"`
	Value   bool   `json:"value"`
	Message string `json:"message"`
}

var (
	environment *cel.Env
	programs    = map[string]cel.Program{}
	// What the caller may still read or write: the collector must not take it.
	input, output []byte
)

func main() {}

//go:wasmexport alloc
func alloc(size uint32) uint32 {
	input = make([]byte, max(size, 1))
	return uint32(uintptr(unsafe.Pointer(&input[0])))
}

//go:wasmexport run
func run(size uint32) uint64 {
	answer := handle(input[:size])
	output, _ = json.Marshal(answer) // A struct of strings and a boolean.
	return uint64(uintptr(unsafe.Pointer(&output[0])))<<32 | uint64(len(output))
}

func handle(body []byte) reply {
	var asked request
	if err := json.Unmarshal(body, &asked); err != nil {
		return reply{Kind: "error", Message: "the object is not JSON"}
	}
	program, err := compiled(asked.Expression)
	if err != nil {
		return reply{Kind: "invalid", Message: err.Error()}
	}
	if asked.Object == nil {
		return reply{Kind: "ok"}
	}
	variables, err := bind(asked.Object)
	if err != nil {
		return reply{Kind: "error", Message: err.Error()}
	}
	value, _, err := program.Eval(variables)
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return reply{Kind: "overBudget", Message: "it costs more than 10000000"}
	}
	if err != nil {
		return reply{Kind: "error", Message: err.Error()}
	}
	truth, isBool := value.(types.Bool)
	if !isBool {
		return reply{Kind: "error", Message: "the result is " + value.Type().TypeName() + ", not bool"}
	}
	return reply{Kind: "value", Value: bool(truth)}
}

func compiled(expression string) (cel.Program, error) {
	if program, known := programs[expression]; known {
		return program, nil
	}
	if environment == nil {
		built, err := cel.NewEnv(
			cel.Variable("apiVersion", cel.StringType),
			cel.Variable("kind", cel.StringType),
			cel.Variable("metadata", cel.DynType),
			cel.Variable("spec", cel.DynType),
			cel.Variable("status", cel.DynType),
			cel.OptionalTypes(),
			cel.CrossTypeNumericComparisons(true),
			cel.DefaultUTCTimeZone(true),
			cel.ParserRecursionLimit(maxNesting),
			cel.ParserExpressionSizeLimit(maxExpressionCodePoints),
		)
		if err != nil {
			return nil, err
		}
		environment = built
	}
	ast, issues := environment.Compile(expression)
	if issues.Err() != nil {
		return nil, firstProblem(issues)
	}
	if out := ast.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, errors.New("its type is " + out.String() + ", not bool")
	}
	program, err := environment.Program(ast, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, err
	}
	if len(programs) >= maxPrograms {
		clear(programs)
	}
	programs[expression] = program
	return program, nil
}

func firstProblem(issues *cel.Issues) error {
	found := issues.Errors()
	if len(found) == 0 {
		return issues.Err()
	}
	// Without the caret drawing below it, which repeats the expression.
	return errors.New(strings.TrimSpace(found[0].Message))
}

func bind(object []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return nil, errors.New("the object is not a JSON object")
	}
	text := func(name string) string { value, _ := fields[name].(string); return value }
	part := func(name string) any {
		if fields[name] == nil {
			return map[string]any{}
		}
		return numbers(fields[name])
	}
	return map[string]any{
		"apiVersion": text("apiVersion"),
		"kind":       text("kind"),
		"metadata":   part("metadata"),
		"spec":       part("spec"),
		"status":     part("status"),
	}, nil
}

// numbers turns JSON numbers without a fraction into int, all others into double.
func numbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		double, err := value.Float64()
		if err != nil {
			return value.String()
		}
		return double
	case map[string]any:
		for key, member := range value {
			value[key] = numbers(member)
		}
	case []any:
		for index, member := range value {
			value[index] = numbers(member)
		}
	}
	return value
}
