// A training core: forward and feedback weight memories of their own, one systolic array, a lane per column that
// requantises results into memory, and a vector unit for bias gradients, update, transport and softmax.
//
// The array is output-stationary, or weight-stationary where STATIONARY is 1: then K is folded over the rows, and all
// folds of K but the last leave their sums in a memory of accumulator width.
//
// One command at a time: set the registers, raise `start` for a cycle, wait until `busy` falls. Memories are arrays with
// as many ports as a cycle needs; a chip would bank and skew them. Tensors lie row-major at their base addresses.
module core #(
    parameter ROWS = 4, COLS = 4, DEPTH = 1024,
    parameter WEIGHT = 8, FEEDBACK = 8, ACTIVATION = 8, ERROR = 8, GRADIENT = 16, MASTER = 16, OPTIMIZER = 16, ACC = 32,
    parameter STATIONARY = 0,
    parameter LEFT = 8, RIGHT = 8  // the wider of activation and error; of weight, feedback and activation
) (
    input wire clock, reset, start,
    input wire [3:0] command,
    input wire [15:0] m, n, k,                                 // sizes of a product; n: words of a vector command
    input wire [15:0] left_base, left_i, left_k,               // operand (i, k) of the left matrix
    input wire [15:0] right_base, right_j, right_k,            // operand (k, j) of the right one
    input wire [15:0] result_base, bias_base, mask_base,
    input wire relu, masked, with_bias,
    input wire signed [7:0] shift, align, rate_shift, weight_shift,
    input wire [1:0] mode,
    input wire [15:0] momentum, rate,
    output wire busy,
    output wire operand_in,                                    // the first operand of a fold enters, or a later one
    output wire result_out                                     // a sum leaves the array
);
    localparam FORWARD = 4'd0, SEND = 4'd1, DESCEND = 4'd2, BIAS_SUM = 4'd3, UPDATE = 4'd4, UPDATE_BIAS = 4'd5,
        TRANSPORT = 4'd6, SOFTMAX = 4'd7;
    localparam WIDE = 64;
    localparam TOP = ACTIVATION > 2 ? (1 << (ACTIVATION - 1)) - 1 : 2;

    reg signed [WEIGHT-1:0]     weight_memory        [0:DEPTH-1];
    reg signed [FEEDBACK-1:0]   feedback_memory      [0:DEPTH-1];
    reg signed [ACTIVATION-1:0] activation_memory    [0:DEPTH-1];
    reg                         mask_memory          [0:DEPTH-1];  // addressed as activations
    reg signed [ERROR-1:0]      error_memory         [0:DEPTH-1];
    reg signed [GRADIENT-1:0]   gradient_memory      [0:DEPTH-1];
    reg signed [MASTER-1:0]     master_memory        [0:DEPTH-1];
    reg signed [OPTIMIZER-1:0]  velocity_memory      [0:DEPTH-1];
    reg signed [GRADIENT-1:0]   bias_gradient_memory [0:DEPTH-1];
    reg signed [MASTER-1:0]     bias_memory          [0:DEPTH-1];
    reg signed [OPTIMIZER-1:0]  bias_velocity_memory [0:DEPTH-1];
    reg        [7:0]            random_memory        [0:DEPTH-1];  // of the rounding: one byte per word of the result
    reg        [7:0]            random_memory_2      [0:DEPTH-1];  // of an update's second rounding
    reg signed [ACC-1:0]        partial_memory       [0:DEPTH-1];
    reg        [15:0]           exp_memory           [0:(1<<ACTIVATION)-1];
    reg        [7:0]            label_memory         [0:255];

    wire product = command <= DESCEND;
    reg  [1:0] running;                                        // 1: a product, 2: a vector command
    assign busy = running != 0;

    // ---- Products: folds one after the other, each K + ROWS + COLS - 2 cycles, or M + 2 ROWS + COLS - 2 where the
    // right operand is loaded first.

    reg [15:0] fold, fold_j, beat;                             // first index on the rows (i, or k) and on the columns
    wire [15:0] loading_beats = STATIONARY ? ROWS : 0;
    wire [15:0] span = STATIONARY ? k : m;
    wire [15:0] stream = STATIONARY ? m : k;
    wire [15:0] last_beat = loading_beats + stream + ROWS + COLS - 3;
    wire fold_ends = beat == last_beat;
    wire last_rows = fold + ROWS >= span;
    wire folds_end = fold_ends && last_rows && fold_j + COLS >= n;

    wire [ROWS*LEFT-1:0]  west;
    wire [COLS*RIGHT-1:0] north;
    wire [ROWS-1:0] first, last;
    wire [COLS-1:0] valid;
    wire [COLS*ACC-1:0] results;
    wire [COLS*16-1:0] row;
    assign operand_in = running == 1 && beat < loading_beats + stream;
    assign result_out = |valid;

    genvar g;
    generate
        for (g = 0; g < ROWS; g = g + 1) begin : feed_west     // row g lags g cycles
            wire [15:0] at = beat - loading_beats - g;
            wire on = running == 1 && beat >= loading_beats + g && at < stream;
            wire [15:0] on_row = fold + g;
            wire [15:0] address = left_base + (STATIONARY ? at * left_i + on_row * left_k : on_row * left_i + at * left_k);
            wire signed [LEFT-1:0] word =
                command == FORWARD ? activation_memory[address] : error_memory[address];
            assign west[g*LEFT +: LEFT] = on && on_row < span ? word : {LEFT{1'b0}};
            assign first[g] = on && at == 0;
            assign last[g] = on && (STATIONARY || at == stream - 1);
        end
        for (g = 0; g < COLS; g = g + 1) begin : feed_north    // column g lags g cycles; loading, all come at once
            wire [15:0] at = STATIONARY ? fold + ROWS - 1 - beat : beat - g;
            wire on = running == 1 && (STATIONARY ? beat < ROWS : beat >= g) && at < k;
            wire [15:0] j = fold_j + g;
            wire [15:0] address = right_base + j * right_j + at * right_k;
            wire signed [RIGHT-1:0] word = command == FORWARD ? weight_memory[address] :
                command == SEND ? feedback_memory[address] : activation_memory[address];
            assign north[g*RIGHT +: RIGHT] = on && j < n ? word : {RIGHT{1'b0}};
        end
        if (STATIONARY) begin : stationary
            stationary_array #(.ROWS(ROWS), .COLS(COLS), .LEFT(LEFT), .RIGHT(RIGHT), .ACC(ACC)) pes (
                .clock(clock), .reset(reset), .loading(running == 1 && beat < ROWS), .west(west), .north(north),
                .on(last[ROWS-1]), .valid(valid), .results(results)
            );
            assign row = 0;
        end else begin : outputs_stay
            array #(.ROWS(ROWS), .COLS(COLS), .LEFT(LEFT), .RIGHT(RIGHT), .ACC(ACC)) pes (
                .clock(clock), .reset(reset), .west(west), .north(north), .first(first), .last(last),
                .valid(valid), .results(results), .row(row)
            );
        end
    endgenerate

    wire [6:0] bits = command == FORWARD ? ACTIVATION : command == SEND ? ERROR : GRADIENT;
    generate
        for (g = 0; g < COLS; g = g + 1) begin : lane
            wire [15:0] i = STATIONARY ? beat - (2 * ROWS - 1) - g : fold + row[g*16 +: 16];
            wire [15:0] j = fold_j + g;
            wire [15:0] index = i * n + j;
            wire signed [WIDE-1:0] bias_word = bias_memory[bias_base + j];
            wire signed [WIDE-1:0] bias, word;
            requantise aligner (
                .sum(bias_word), .shift(align), .mode(2'd0), .random(8'd0), .bits(7'd62), .word(bias)
            );
            wire signed [ACC-1:0] fresh = results[g*ACC +: ACC];
            wire signed [ACC-1:0] kept = partial_memory[index];
            wire signed [ACC-1:0] bare = STATIONARY && fold != 0 ? kept + fresh : fresh;
            wire signed [ACC-1:0] sum = bare + (with_bias ? bias : 0);
            requantise rounder (
                .sum({{(WIDE - ACC){sum[ACC-1]}}, sum}), .shift(shift), .mode(mode), .random(random_memory[index]),
                .bits(bits), .word(word)
            );
            always @(posedge clock) if (valid[g] && i < m && j < n) begin
                if (STATIONARY && !last_rows) partial_memory[index] <= bare;
                else case (command)
                    FORWARD: begin
                        activation_memory[result_base+index] <= relu && word < 0 ? 0 : word;
                        mask_memory[result_base+index] <= word > 0 && word < TOP;  // a saturated word passes no error
                    end
                    SEND: error_memory[result_base+index] <= !masked || mask_memory[mask_base+index] ? word : 0;
                    default: gradient_memory[result_base+index] <= word;
                endcase
            end
        end
    endgenerate

    // ---- Vector commands: one word per cycle.

    reg [15:0] at, inner;                                      // the word, and the position within a sum
    reg signed [WIDE-1:0] total;
    wire of_bias = command == UPDATE_BIAS;
    wire [15:0] here = (of_bias ? bias_base : right_base) + at;

    // Update: velocity = round((velocity * momentum + aligned gradient) / 2^8), master -= round(velocity * rate).
    wire signed [WIDE-1:0] gradient = of_bias ? bias_gradient_memory[here] : gradient_memory[here];
    wire signed [WIDE-1:0] velocity = of_bias ? bias_velocity_memory[here] : velocity_memory[here];
    wire signed [WIDE-1:0] master = of_bias ? bias_memory[here] : master_memory[here];
    wire signed [WIDE-1:0] wide_momentum = {48'd0, momentum};
    wire signed [WIDE-1:0] wide_rate = {48'd0, rate};
    wire signed [WIDE-1:0] aligned, moved, displacement, stored, forward_word;
    requantise gradient_aligner (
        .sum(gradient), .shift(align), .mode(2'd1), .random(8'd0), .bits(7'd62), .word(aligned)
    );
    requantise velocity_rounder (
        .sum(velocity * wide_momentum + aligned), .shift(8'sd8), .mode(mode), .random(random_memory[at]),
        .bits(OPTIMIZER[6:0]), .word(moved)
    );
    requantise rate_rounder (
        .sum(moved * wide_rate), .shift(rate_shift), .mode(mode), .random(random_memory_2[at]), .bits(7'd62),
        .word(displacement)
    );
    requantise master_saturator (
        .sum(master - displacement), .shift(8'sd0), .mode(2'd1), .random(8'd0), .bits(MASTER[6:0]), .word(stored)
    );
    requantise weight_rounder (
        .sum(stored), .shift(weight_shift), .mode(2'd0), .random(8'd0), .bits(WEIGHT[6:0]), .word(forward_word)
    );

    // Transport: the forward word in the feedback format.
    wire signed [WIDE-1:0] travelling = weight_memory[right_base+at];
    wire signed [WIDE-1:0] copied;
    requantise copier (
        .sum(travelling), .shift(weight_shift), .mode(2'd0), .random(8'd0), .bits(FEEDBACK[6:0]), .word(copied)
    );

    // Bias gradient: the sum of a column of errors (m samples of n words); wraps as the accumulators do.
    wire signed [ACC-1:0] column = total + error_memory[left_base+inner*n+at];
    wire signed [WIDE-1:0] column_word;
    requantise bias_rounder (
        .sum({{(WIDE - ACC){column[ACC-1]}}, column}), .shift(shift), .mode(mode), .random(random_memory[at]),
        .bits(GRADIENT[6:0]), .word(column_word)
    );

    // Softmax of m samples of n logits: three passes over a sample, for the maximum, the sum and the quotients.
    reg [1:0] pass;
    reg signed [ACTIVATION-1:0] highest;
    wire signed [ACTIVATION-1:0] logit = activation_memory[left_base+at*n+inner];
    wire [ACTIVATION-1:0] below = highest - logit;
    wire [WIDE-1:0] power = exp_memory[below];
    // To the nearest by half of the divisor; else with 8 more bits, which are rounded off.
    wire exact = mode == 2'd0;
    wire [WIDE-1:0] quotient = exact ? ((power << (ERROR - 1)) + (total >> 1)) / total : (power << (ERROR + 7)) / total;
    wire signed [WIDE-1:0] less = quotient
        - (label_memory[at] != inner ? 64'd0 : exact ? 64'd1 << (ERROR - 1) : 64'd1 << (ERROR + 7));
    wire signed [WIDE-1:0] difference;
    requantise error_rounder (
        .sum(less), .shift(exact ? 8'sd0 : 8'sd8), .mode(exact ? 2'd1 : mode), .random(random_memory[at*n+inner]),
        .bits(ERROR[6:0]), .word(difference)
    );

    always @(posedge clock) begin
        if (reset) running <= 0;
        else if (running == 0 && start) begin
            running <= product ? 1 : 2;
            {fold, fold_j, beat, at, inner, pass} <= 0;
            total <= 0;
        end else if (running == 1) begin
            beat <= fold_ends ? 0 : beat + 1;
            if (fold_ends) begin
                fold_j <= fold_j + COLS >= n ? 0 : fold_j + COLS;
                if (fold_j + COLS >= n) fold <= fold + ROWS;
            end
            if (folds_end) running <= 0;
        end else if (running == 2) case (command)
            BIAS_SUM: begin
                total <= inner == m - 1 ? 0 : column;
                inner <= inner == m - 1 ? 0 : inner + 1;
                if (inner == m - 1) begin
                    bias_gradient_memory[result_base+at] <= column_word;
                    at <= at + 1;
                    if (at == n - 1) running <= 0;
                end
            end
            SOFTMAX: begin
                inner <= inner == n - 1 ? 0 : inner + 1;
                case (pass)
                    0: if (inner == 0 || logit > highest) highest <= logit;
                    1: total <= (inner == 0 ? 0 : total) + power;
                    default: error_memory[result_base+at*n+inner] <= difference;
                endcase
                if (inner == n - 1) begin
                    pass <= pass == 2 ? 0 : pass + 1;
                    if (pass == 2) at <= at + 1;
                    if (pass == 2 && at == m - 1) running <= 0;
                end
            end
            default: begin
                at <= at + 1;
                if (at == n - 1) running <= 0;
                if (command == TRANSPORT) feedback_memory[result_base+at] <= copied;
                else if (of_bias) begin
                    bias_velocity_memory[here] <= moved;
                    bias_memory[here] <= stored;
                end else begin
                    velocity_memory[here] <= moved;
                    master_memory[here] <= stored;
                    weight_memory[here] <= forward_word;
                end
            end
        endcase
    end
endmodule
