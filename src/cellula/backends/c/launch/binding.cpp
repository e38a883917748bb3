/* A call of a kernel and its way back as one node of torch's graph, without Python in between.

   What a call is like stands in a recipe, a tensor of whole numbers that recipe.py makes; nothing here knows a cell.
   Tensors come as: the input [T, B, I], or [B, I] of a single step, the states [B, H] or [1, B, H], the parameters in the
   order of the formula. */

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Numbers = const int64_t *;
using Pointers = c10::SmallVector<void *, 64>;

/* The same numbers in the same order as in recipe.py. */
struct Head {
    int64_t steps, batch, width, output;
    int64_t forward, backward, products;
    int64_t run_parallel, thread_number, thread_count, home;
    int64_t work, extra, begun, written, wants_input, stacked, single;
    int64_t states, given, parameters, matrices, series, totals, units, settings, results, factors, jobs;
};

struct Recipe : Head {
    /* Units of every state; place among those given of every parameter; units of every kept state; numbers of the
       parameters whose gradients the kernel sums; sizes; settings; numbers of the parameters whose gradients are
       products, and of those that products read; thirteen numbers a product. */
    Numbers state_sizes, places, series_sizes, total_numbers, unit_counts, setting_bits, result_numbers, factor_numbers,
        job_numbers;

    explicit Recipe(const Tensor &numbers) : Head(*reinterpret_cast<const Head *>(numbers.const_data_ptr<int64_t>())) {
        Numbers at = numbers.const_data_ptr<int64_t>() + sizeof(Head) / sizeof(int64_t);
        auto take = [&at](int64_t count) { return std::exchange(at, at + count); };
        state_sizes = take(states), places = take(parameters), series_sizes = take(series);
        total_numbers = take(totals), unit_counts = take(units), setting_bits = take(settings);
        result_numbers = take(results), factor_numbers = take(factors), job_numbers = take(13 * jobs);
    }

    size_t count() const { return 1 + states + given; }

    c10::SmallVector<int64_t, 3> state_shape(int64_t number) const {
        if (stacked) return {1, batch, state_sizes[number]};
        return {batch, state_sizes[number]};
    }
};

/* The tensors as a kernel takes them. */
struct Ready {
    Tensor x;
    Tensors states, parameters;

    Ready(const Recipe &recipe, at::TensorList values) : x(values[0].contiguous()) {
        for (int64_t i = 0; i < recipe.states; i++) states.push_back(values[1 + i].contiguous());
        for (int64_t i = 0; i < recipe.parameters; i++) {
            const Tensor &value = values[1 + recipe.states + recipe.places[i]];
            parameters.push_back(i < recipe.matrices ? value : value.contiguous());
        }
    }
};

struct Made {
    Tensor output, work;
    Tensors final, series;
};

void add(Pointers &pointers, const Tensors &tensors) {
    for (const Tensor &tensor : tensors) pointers.push_back(tensor.mutable_data_ptr());
}

void add(Pointers &pointers, const Tensor &tensor) {
    pointers.push_back(tensor.defined() ? tensor.mutable_data_ptr() : nullptr);
}

/* Calls machine code. */
void call(const Recipe &recipe, int64_t function, const Tensors &parameters, const Pointers &pointers) {
    c10::SmallVector<int64_t, 64> numbers;
    /* After a fork torch's threads are gone: then one must do. */
    if (getpid() == recipe.home)
        numbers.append({recipe.run_parallel, recipe.thread_number, recipe.thread_count, at::get_num_threads()});
    else
        numbers.append({0, 0, 0, 1});
    numbers.append({recipe.steps, recipe.batch, 0, 0});
    numbers.append(recipe.unit_counts, recipe.unit_counts + recipe.units);
    for (int64_t i = 0; i < recipe.matrices; i++) {
        auto strides = parameters[i].strides();
        if (strides.size() == 2) numbers.append({strides[0], strides[1], 0});
        else numbers.append({strides[1], strides[2], strides[0]});
    }
    auto run = reinterpret_cast<int (*)(Numbers, void *const *, const double *)>(function);
    int failed = run(numbers.data(), pointers.data(), reinterpret_cast<const double *>(recipe.setting_bits));
    TORCH_CHECK_WITH(OutOfMemoryError, !failed,
                     "there is not enough memory for the kernel's scratch space; use a smaller batch");
}

Made run_forward(const Recipe &recipe, const Ready &ready) {
    const auto &options = ready.x.options();
    auto empty = [&](int64_t units) { return at::empty({recipe.steps, recipe.batch, units}, options); };
    Tensor output = recipe.single ? at::empty({recipe.batch, recipe.output}, options) : empty(recipe.output);
    Made made{output, recipe.work ? empty(recipe.work) : Tensor(), {}, {}};
    for (int64_t i = 0; i < recipe.states; i++)
        made.final.push_back(at::empty(recipe.state_shape(i), options));
    for (int64_t i = 0; i < recipe.series; i++) made.series.push_back(empty(recipe.series_sizes[i]));
    Pointers pointers;
    add(pointers, ready.x), add(pointers, ready.parameters), add(pointers, made.output), add(pointers, ready.states);
    add(pointers, made.final), add(pointers, made.series), add(pointers, made.work);
    call(recipe, recipe.forward, ready.parameters, pointers);
    return made;
}

/* The products that follow the steps; gradients of matrices go into their places. */
void run_products(const Recipe &recipe, const Ready &ready, const Made &made, const Tensor &extra,
                  const Tensor &d_output, const Tensor &d_x, Tensors &gradients) {
    if (!recipe.jobs) return;
    Pointers pointers;
    add(pointers, ready.x), add(pointers, made.work), add(pointers, extra), add(pointers, made.output);
    add(pointers, d_output), add(pointers, made.series), add(pointers, ready.states);
    int64_t buffers = pointers.size();
    for (int64_t i = 0; i < recipe.results; i++) {
        const Tensor &like = ready.parameters[recipe.result_numbers[i]];
        /* A matrix that is a view of another has a gradient of its own. */
        Tensor &gradient = gradients[recipe.result_numbers[i]] = at::empty(like.sizes(), like.options());
        add(pointers, gradient);
    }
    auto number = [](int64_t value) { return reinterpret_cast<void *>(value); };
    for (int64_t i = 0; i < recipe.factors; i++) {
        const Tensor &matrix = ready.parameters[recipe.factor_numbers[i]];
        add(pointers, matrix);
        pointers.push_back(number(matrix.stride(0))), pointers.push_back(number(matrix.stride(1)));
    }
    add(pointers, d_x);
    auto run = reinterpret_cast<void (*)(Numbers, int64_t, void *const *, int64_t, int64_t)>(recipe.products);
    run(recipe.job_numbers, recipe.jobs, pointers.data(), buffers, recipe.results);
}

/* The gradients of the input and of the states, then those of the parameters in the kernel's order. */
Tensors run_backward(const Recipe &recipe, const Ready &ready, const Made &made, const Tensors &given) {
    const auto &options = ready.x.options();
    Tensor d_output = given[0].defined() ? given[0].contiguous() : at::zeros_like(made.output);
    Tensor extra = recipe.extra ? at::empty({recipe.steps, recipe.batch, recipe.extra}, options) : Tensor();
    Tensor d_x;
    if (recipe.wants_input || recipe.begun) d_x = recipe.written ? at::empty_like(ready.x) : at::zeros_like(ready.x);
    Tensors d_final, found(1), gradients(recipe.parameters), totals;
    for (int64_t i = 0; i < recipe.states; i++) {
        d_final.push_back(given[1 + i].defined() ? given[1 + i].contiguous() : Tensor());
        found.push_back(at::empty_like(ready.states[i]));
    }
    for (int64_t i = 0; i < recipe.totals; i++) {
        int64_t number = recipe.total_numbers[i];
        gradients[number] = at::empty(ready.parameters[number].sizes(), options);
        totals.push_back(gradients[number]);
    }
    Pointers pointers;
    add(pointers, ready.x), add(pointers, ready.parameters), add(pointers, made.output), add(pointers, d_output);
    for (const Tensor &one : d_final) add(pointers, one);
    for (int64_t i = 0; i < recipe.states; i++) add(pointers, found[1 + i]);
    add(pointers, ready.states), add(pointers, made.series), add(pointers, made.work), add(pointers, extra);
    add(pointers, d_x), add(pointers, totals);
    call(recipe, recipe.backward, ready.parameters, pointers);
    run_products(recipe, ready, made, extra, d_output, recipe.wants_input ? d_x : Tensor(), gradients);
    if (recipe.wants_input) found[0] = d_x;
    for (Tensor &gradient : gradients) found.push_back(std::move(gradient));
    return found;
}

/* Tensors that are not the numbers which lie at their address: many of them at a time, negated ones, ones of Python. */
constexpr c10::DispatchKeySet wrapped({c10::DispatchKey::Batched, c10::DispatchKey::FuncTorchBatched,
                                       c10::DispatchKey::FuncTorchGradWrapper, c10::DispatchKey::Negative,
                                       c10::DispatchKey::Functionalize, c10::DispatchKey::Python});

bool any_wrapped(const Tensors &given) {
    return std::any_of(given.begin(), given.end(),
                       [](const Tensor &one) { return one.defined() && one.key_set().has_any(wrapped); });
}

/* The gradients by the reference, in Python, which can be differentiated again. */
Tensors differentiate(const Tensor &numbers, at::TensorList values, const Tensors &given, const std::vector<bool> &wanted) {
    static const auto function = c10::Dispatcher::singleton().findSchemaOrThrow("cellula_binding::differentiate", "");
    c10::List<std::optional<Tensor>> gradients;
    for (const Tensor &one : given) gradients.push_back(one.defined() ? std::optional<Tensor>(one) : std::nullopt);
    c10::List<bool> wants;
    for (bool one : wanted) wants.push_back(one);
    torch::jit::Stack stack{numbers, c10::List<Tensor>(values), gradients, wants};
    function.callBoxed(stack);
    Tensors found = stack.back().toTensorVector(), every(values.size());
    for (size_t i = 0, next = 0; i < every.size(); i++)
        if (wanted[i]) every[i] = found[next++];
    return every;
}

struct Run : torch::autograd::Function<Run> {
    static Tensors forward(torch::autograd::AutogradContext *context, const Tensor &numbers, at::TensorList values) {
        Recipe recipe(numbers);
        Made made = run_forward(recipe, Ready(recipe, values));
        context->set_materialize_grads(false);
        context->saved_data["recipe"] = numbers;
        Tensors saved(values.begin(), values.end());
        saved.push_back(made.output);
        saved.insert(saved.end(), made.series.begin(), made.series.end());
        if (made.work.defined()) saved.push_back(made.work);
        context->save_for_backward(std::move(saved));
        Tensors result{made.output};
        result.insert(result.end(), made.final.begin(), made.final.end());
        return result;
    }

    static Tensors backward(torch::autograd::AutogradContext *context, Tensors given) {
        Tensor numbers = context->saved_data["recipe"].toTensor();
        Recipe recipe(numbers);
        const size_t count = recipe.count();
        Tensors saved = context->get_saved_variables(), result(1 + count);
        at::TensorList values(saved.data(), count);
        std::vector<bool> wanted(count);
        /* The recipe itself comes first. */
        for (size_t i = 0; i < count; i++) wanted[i] = context->needs_input_grad(1 + i);
        if (at::GradMode::is_enabled() || any_wrapped(given)) {
            at::AutoGradMode differentiable(true);
            Tensors found = differentiate(numbers, values, given, wanted);
            std::copy(found.begin(), found.end(), result.begin() + 1);
            return result;
        }
        Ready ready(recipe, values);
        Made made;
        if (context->saved_data.count("used")) {
            /* The first walk back has put gradients in the place of what was saved. */
            made = run_forward(recipe, ready);
        } else {
            made.output = saved[count];
            for (int64_t i = 0; i < recipe.series; i++) made.series.push_back(saved[count + 1 + i]);
            if (recipe.work) made.work = saved.back();
        }
        context->saved_data["used"] = true;
        Tensors found = run_backward(recipe, ready, made, given);
        for (int64_t i = 0; i <= recipe.states; i++) result[1 + i] = std::move(found[i]);
        for (int64_t i = 0; i < recipe.parameters; i++)
            result[2 + recipe.states + recipe.places[i]] = std::move(found[1 + recipe.states + i]);
        for (size_t i = 0; i < count; i++)
            if (wanted[i] && !result[1 + i].defined()) result[1 + i] = at::zeros_like(values[i]);
        return result;
    }
};

/* Whether the tensors are what the recipe says. */
bool fit(const Recipe &recipe, at::TensorList values) {
    const Tensor &x = values[0];
    for (const Tensor &value : values) {
        if (!value.is_cpu() || value.scalar_type() != x.scalar_type() || value.layout() != at::kStrided) return false;
        if (value.key_set().has_any(wrapped)) return false;
    }
    if (values.size() != recipe.count()) return false;
    for (int64_t i = 0; i < recipe.states; i++)
        if (!values[1 + i].sizes().equals(recipe.state_shape(i))) return false;
    return true;
}

/* The output and the final states; nothing where a tensor is not what the recipe says. Without states they are 0. */
Tensors run(const Tensor &numbers, at::TensorList given, bool saving) {
    Recipe recipe(numbers);
    Tensors whole;
    at::TensorList values = given;
    if (recipe.states && (int64_t)given.size() == 1 + recipe.given) {
        whole.push_back(given[0]);
        for (int64_t i = 0; i < recipe.states; i++)
            whole.push_back(at::zeros(recipe.state_shape(i), given[0].options()));
        whole.insert(whole.end(), given.begin() + 1, given.end());
        values = whole;
    }
    if (!fit(recipe, values)) return {};
    if (saving) return Run::apply(numbers, values);
    Made made = run_forward(recipe, Ready(recipe, values));
    made.final.insert(made.final.begin(), made.output);
    return made.final;
}

TORCH_LIBRARY_FRAGMENT(cellula_binding, library) {
    library.def("run(Tensor recipe, Tensor[] values, bool saving) -> Tensor[]", &run);
}

}  // namespace
