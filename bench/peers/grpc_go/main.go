// What a pick of gRPC-Go's weighted pickers costs. Arguments: endpoints, picks. Prints a line of JSON: ns by picker.
//
// The pickers are internal to gRPC-Go, so that the build copies them, unchanged, beside this file.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"eastgate/bench/wrr"
)

var sink any

// The same weights 1 to 100 in all languages.
func weight(index uint32) int64 {
	return int64(1 + (index*2654435761>>16)%100)
}

func measure(picker wrr.WRR, endpoints uint32, picks int) float64 {
	for index := uint32(0); index < endpoints; index++ {
		picker.Add(index, weight(index))
	}
	for count := picks / 10; count > 0; count-- {
		sink = picker.Next()
	}
	begun := time.Now()
	for count := picks; count > 0; count-- {
		sink = picker.Next()
	}
	return float64(time.Since(begun).Nanoseconds()) / float64(picks)
}

func main() {
	endpoints, _ := strconv.Atoi(os.Args[1])
	picks, _ := strconv.Atoi(os.Args[2])
	line, _ := json.Marshal(map[string]float64{
		"gRPC-Go EDF":    measure(wrr.NewEDF(), uint32(endpoints), picks),
		"gRPC-Go random": measure(wrr.NewRandom(), uint32(endpoints), picks),
	})
	fmt.Println(string(line))
}
